# Usage: sut-agent.sh OVSDB_SOCKET RUN_DIR CENTRAL_IP CENTRAL_PORT
# One agent in the foreground, its state beside the run folder so that a restart finds it. The members listen on
# CENTRAL_PORT and the ports after it, as sut-central.sh starts them.
set -eu
bin=${QN_BIN:-$(dirname "$0")/../target/release}
controllers=$(for n in $(seq "${QN_MEMBERS:-3}"); do printf '%shttp://%s:%s' "${comma:-}" "$3" $(($4 + n - 1)); comma=,; done)
mkdir -p "$2/quantumnet"
exec "$bin/quantumnet-agent" --ovsdb "unix:$1" --run-dir "$2" --state-dir "$2/quantumnet" \
    --controller "$controllers" --metrics 127.0.0.1:9642
