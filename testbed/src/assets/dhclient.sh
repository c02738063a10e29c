#!/bin/sh
# Called by dhclient on every event. Configures the interface and writes the event down, one block per event.
case "$reason" in
BOUND | RENEW | REBIND | REBOOT)
    ip addr replace "$new_ip_address/$new_subnet_mask" dev "$interface"
    [ -z "$new_interface_mtu" ] || ip link set "$interface" mtu "$new_interface_mtu"
    for gateway in $new_routers; do
        ip route replace default via "$gateway" dev "$interface" onlink
        break
    done
    ;;
BOUND6 | RENEW6 | REBIND6)
    ip -6 addr replace "$new_ip6_address/$new_ip6_prefixlen" dev "$interface" nodad
    ;;
PREINIT | PREINIT6)
    ip link set "$interface" up
    ;;
EXPIRE | FAIL | RELEASE | STOP)
    ip -4 addr flush dev "$interface"
    ;;
esac
{
    echo "event=$reason"
    env
    echo "end-of-event"
} >>"$LEASE_FILE"
