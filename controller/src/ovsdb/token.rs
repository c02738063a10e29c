//! `last-txn-id`: a point in the store's history as the uuid that OVSDB's clients keep (ovsdb-server(7), 4.1.15).
//!
//! # Invariants
//! - The same on all members and after a restart: it is made of the history and the revision alone.
//! - `revision(token, history) == Some(r)` exactly for the token of revision `r` of that history.

use quantumnet_model::Uuid;

use crate::store::ResumeToken;

/// The transaction id of a point in history. The first 8 octets say which history, the others which revision.
pub(super) fn txn_id(token: &ResumeToken) -> Uuid {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&history(token));
    octets[8..].copy_from_slice(&token.revision.to_be_bytes());
    Uuid::from_bytes(octets)
}

/// The point that a transaction id names; `None` when it is of another history than `now`, or of the future.
pub(super) fn resume(id: Uuid, now: &ResumeToken) -> Option<ResumeToken> {
    let (octets, mut revision) = (id.as_bytes(), [0; 8]);
    revision.copy_from_slice(&octets[8..]);
    let token = ResumeToken { revision: u64::from_be_bytes(revision), ..*now };
    (octets[..8] == history(now) && token.precedes(now)).then_some(token)
}

fn history(token: &ResumeToken) -> [u8; 8] {
    let digest = Uuid::new_v5(&token.cluster_id, token.history_id.as_bytes());
    let mut octets = [0; 8];
    octets.copy_from_slice(&digest.as_bytes()[..8]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_in_its_own_history_only() {
        let now =
            ResumeToken { cluster_id: Uuid::from_u128(1), history_id: Uuid::from_u128(2), revision: 300 };
        let then = ResumeToken { revision: 258, ..now };
        let id = txn_id(&then);
        assert_eq!(id.as_bytes()[8..], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(resume(id, &now), Some(then));
        assert_eq!(resume(id, &ResumeToken { revision: 257, ..now }), None, "the future");
        assert_eq!(resume(id, &ResumeToken { history_id: Uuid::from_u128(3), ..now }), None);
        assert_eq!(resume(id, &ResumeToken { cluster_id: Uuid::from_u128(3), ..now }), None);
        assert_eq!(resume(Uuid::nil(), &now), None);
    }
}
