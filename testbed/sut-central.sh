# Usage: sut-central.sh STATE_DIR NB_PORT CENTRAL_IP CENTRAL_PORT
# One controller in the foreground. The northbound OVSDB server (NB_PORT) comes with the next release, so
# until then the harnesses can start us but not configure us.
set -e
bin=${QN_BIN:-$(dirname "$0")/../target/release}
exec "$bin/quantumnet-controller" --data-dir "$1" --listen "$3:$4" --metrics 127.0.0.1:9641
