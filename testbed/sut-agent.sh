# Usage: sut-agent.sh OVSDB_SOCKET RUN_DIR CONTROLLER(ip:port)
# One agent in the foreground, its state beside the run folder so that a restart finds it.
set -e
bin=${QN_BIN:-$(dirname "$0")/../target/release}
mkdir -p "$2/quantumnet"
exec "$bin/quantumnet-agent" --ovsdb "unix:$1" --run-dir "$2" --state-dir "$2/quantumnet" \
    --controller "http://$3" --metrics 127.0.0.1:9642
