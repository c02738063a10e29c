#!/bin/sh
# Makes a controller or a hypervisor of a fresh Debian 12. May be run again: it converges.
#
# From the Vagrantfile: ROLE (controller | hypervisor), ADDRESS (management);
#   controller: MEMBER_ID;  hypervisor: REMOTES (http://IP:PORT,...), ENCAP_IP
set -eu

fail() {
    echo "provision: $*" >&2
    exit 1
}

install_program() {
    built=/quantumnet/target/release/$1
    [ -x "$built" ] || fail "$built is missing: run cargo build --release first, then vagrant rsync"
    install -m 755 "$built" "/usr/local/bin/$1"
}

# service NAME DESCRIPTION AFTER COMMAND...
service() {
    name=$1 description=$2 after=$3
    shift 3
    cat >"/etc/systemd/system/$name.service" <<UNIT
[Unit]
Description=$description
After=network-online.target $after
Wants=network-online.target $after

[Service]
ExecStart=$*
Restart=always
RestartSec=1
StateDirectory=$name

[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable --quiet "$name"
    systemctl restart "$name"
}

controller() {
    install_program quantumnet-controller
    service quantumnet-controller "QuantumNet controller" "" \
        /usr/local/bin/quantumnet-controller --data-dir /var/lib/quantumnet-controller --listen "$ADDRESS:9640" \
        --listen-unix /run/quantumnet-controller.sock --member-id "$MEMBER_ID" \
        --metrics "$ADDRESS:9641"
}

hypervisor() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y openvswitch-switch >/dev/null
    modprobe openvswitch
    modprobe geneve
    # br-int is left to the agent, which makes it closed. Not every provider's network carries more than 1500 bytes.
    device=$(ip -o -4 addr show | awk -v ip="$ENCAP_IP/" 'index($4, ip) == 1 { print $2 }')
    ip link set dev "$device" mtu 1600 || echo "provision: $device keeps its MTU; guests get less than 1500" >&2
    ovs-vsctl --may-exist add-br br-ex -- set Open_vSwitch . \
        "external_ids:system-id=$(hostname)" "external_ids:hostname=$(hostname)" \
        external_ids:ovn-encap-type=geneve "external_ids:ovn-encap-ip=$ENCAP_IP" \
        external_ids:ovn-bridge-datapath-type=system external_ids:ovn-bridge-mappings=physnet1:br-ex \
        "external_ids:quantumnet-remote=\"$REMOTES\""
    install_program quantumnet-agent
    service quantumnet-agent "QuantumNet agent" openvswitch-switch.service \
        /usr/local/bin/quantumnet-agent --ovsdb unix:/run/openvswitch/db.sock --controller "$REMOTES" \
        --state-dir /var/lib/quantumnet-agent --metrics "$ADDRESS:9642"
}

case "$ROLE" in
controller) controller ;;
hypervisor) hypervisor ;;
*) fail "ROLE is $ROLE: controller or hypervisor" ;;
esac
install_program qnctl
