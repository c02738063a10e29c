//! MAC addresses for ports that name none.
//!
//! # Invariants
//! - Locally administered and unicast: the first octet is `0a`.
//! - The candidates of one port are always the same, so that a transaction is a function of its input.

use quantumnet_model::{Uuid, address::Mac};
use uuid::uuid;

/// How many candidates a port has before its creation is refused.
pub const CANDIDATES_MAX: u32 = 64;

const NAMESPACE: Uuid = uuid!("6ab7e27d-6ad5-4f0b-9a5e-54f3c5e3b2f1");

/// The MAC to try on the given attempt.
pub fn candidate(port: Uuid, attempt: u32) -> Mac {
    let mut seed = *port.as_bytes().first_chunk::<16>().expect("a uuid has 16 octets");
    for (octet, more) in seed.iter_mut().zip(attempt.to_be_bytes()) {
        *octet ^= more;
    }
    let digest = Uuid::new_v5(&NAMESPACE, &seed);
    // The version and variant bits of a uuid are in octets 6 and 8: the first five are all digest.
    let [a, b, c, d, e, ..] = *digest.as_bytes();
    Mac([0x0a, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_differ_and_stay_the_same() {
        let port = Uuid::from_u128(7);
        assert_eq!(candidate(port, 0), candidate(port, 0));
        assert_ne!(candidate(port, 0), candidate(port, 1));
        assert_ne!(candidate(port, 0), candidate(Uuid::from_u128(8), 0));
        assert_eq!(candidate(port, 3).0[0], 0x0a);
        assert!(!candidate(port, 3).is_multicast());
    }
}
