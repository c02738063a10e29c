# Usage: sut-member.sh STATE_DIR NB_PORT CENTRAL_IP CENTRAL_PORT MEMBER RAFT_ADDRESS RAFT_ADDRESSES(of all, by commas)
# One member of a cluster in the foreground.
set -eu
bin=${QN_BIN:-$(dirname "$0")/../target/release}
peers=$(echo "$7" | tr , '\n' | awk '{ printf "%s%d=%s", sep, NR, $0; sep = "," }')
exec "$bin/quantumnet-controller" --data-dir "$1" --member-id "$5" --peer-listen "$6" --peers "$peers" \
    --listen "$3:$4" --nb "ptcp:$2" --sb "punix:$1/sb.sock" --metrics "127.0.3.$5:$4"
