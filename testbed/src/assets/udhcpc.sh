#!/bin/sh
# Called by udhcpc on every event. Configures the interface and writes the event down, one block per event.
case "$1" in
bound | renew)
    ip addr replace "$ip/$mask" ${broadcast:+broadcast "$broadcast"} dev "$interface"
    [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
    # With classless routes (option 121) the router option must be ignored (RFC 3442).
    if [ -n "$staticroutes" ]; then
        set -- "$1" $staticroutes
        event=$1
        shift
        while [ $# -ge 2 ]; do
            case "$2" in
            0.0.0.0) ip route replace "$1" dev "$interface" ;;
            *) ip route replace "$1" via "$2" dev "$interface" onlink ;;
            esac
            shift 2
        done
        set -- "$event"
    else
        for gateway in $router; do
            ip route replace default via "$gateway" dev "$interface" onlink
            break
        done
    fi
    ;;
deconfig)
    ip -4 addr flush dev "$interface"
    ;;
esac
{
    echo "event=$1"
    env
    echo "end-of-event"
} >>"$LEASE_FILE"
