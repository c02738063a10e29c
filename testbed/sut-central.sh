# Usage: sut-central.sh STATE_DIR NB_PORT CENTRAL_IP CENTRAL_PORT
# A cluster of QN_MEMBERS members (3) in the foreground. Ends them all when it is told to end, and when one of them
# ends by itself; a member does not outlive this shell either.
#
# The harnesses know one northbound address, that of member 1. Which member leads is left to the cluster, so a client
# must not insist on the leader (`OVN_NBCTL_OPTIONS=--no-leader-only`): a follower forwards what is written to it.
set -eu
bin=${QN_BIN:-$(dirname "$0")/../target/release}
members=${QN_MEMBERS:-3}
state=$1 nb_port=$2 ip=$3 port=$4

# Every member has a loopback address of its own, so that the ports given stay enough.
peers=$(for n in $(seq "$members"); do printf '%s%s=127.0.1.%s:%s' "${comma:-}" "$n" "$n" "$port"; comma=,; done)

end() {
    trap '' TERM INT EXIT
    kill $(jobs -p) 2>/dev/null || true
    wait
    exit "$1"
}
trap 'end 0' TERM INT
trap 'end 1' EXIT

for n in $(seq "$members"); do
    nb=ptcp:$nb_port:127.0.1.$n
    [ "$n" != 1 ] || nb=ptcp:$nb_port:127.0.0.1
    mkdir -p "$state/$n"
    cluster=
    [ "$members" = 1 ] || cluster="--peer-listen 127.0.1.$n:$port --peers $peers"
    # shellcheck disable=SC2086  # options without blanks
    setpriv --pdeathsig KILL "$bin/quantumnet-controller" --data-dir "$state/$n" --member-id "$n" $cluster \
        --listen "$ip:$((port + n - 1))" --nb "$nb" --sb "ptcp:$nb_port:127.0.2.$n" \
        --metrics "127.0.3.$n:$port" &
done
wait -n || true
echo "a member ended by itself" >&2
exit 1
