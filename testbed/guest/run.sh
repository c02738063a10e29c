#!/bin/sh
# Runs the smoke on the kernel datapath, in a QEMU guest without KVM, and reports what the guest said.
#
# Debian's cloud kernel is downloaded and unpacked into a work folder, never installed. The initramfs holds busybox, dash,
# iproute2, Open vSwitch and the smoke with the libraries they need. One processor on purpose: with two, the guest hangs or
# loses upcalls now and then under emulation. One retry, for the same reason; both logs are kept.
#
# usage: testbed/guest/run.sh [WORK_FOLDER]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=${1:-$target/guest}
time_limit=${QN_GUEST_SECONDS:-300}
tree=$work/tree
modules="openvswitch vport-geneve geneve veth tun bridge wireguard"
programs="ip ethtool ping tcpdump busybox dash ovs-vsctl ovs-ofctl ovs-appctl ovsdb-tool ovsdb-client ovsdb-server ovs-vswitchd"

fail() {
    echo "guest: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null || fail "$1 not found: install the Debian package $2"
}

unpack_kernel() {
    [ -z "$(ls "$work"/kernel/boot/vmlinuz-* 2>/dev/null)" ] || return 0
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || fail "apt does not know linux-image-cloud-amd64: run apt-get update"
    mkdir -p "$work/debs" "$work/kernel"
    (cd "$work/debs" && apt-get -q download "$package")
    dpkg -x "$work/debs/$package"_*.deb "$work/kernel"
}

# Copies a program to its place in the tree, with the libraries it is linked to.
add_program() {
    file=$1
    to=$tree/${2:-$(readlink -f "$file")}
    mkdir -p "$(dirname "$to")"
    cp -L "$file" "$to"
    ldd "$file" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$tree$library" ] || { mkdir -p "$tree$(dirname "$library")" && cp -L "$library" "$tree$library"; }
    done
}

build_tree() {
    rm -rf "$tree"
    mkdir -p "$tree/etc" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run" "$tree/tmp" "$tree/root" "$tree/var" \
        "$tree/usr/bin" "$tree/usr/sbin" "$tree/usr/lib" "$tree/usr/lib64" "$tree/usr/share/openvswitch" "$tree/opt/quantumnet"
    for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$tree/$folder"; done
    ln -s /run "$tree/var/run"
    for program in $programs; do
        path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$program") || fail "$program not found"
        add_program "$path" "usr/bin/$program"
    done
    busybox --list | while read -r applet; do
        [ -e "$tree/usr/bin/$applet" ] || ln -s busybox "$tree/usr/bin/$applet"
    done
    ln -sf dash "$tree/usr/bin/sh"
    cp /usr/share/openvswitch/vswitch.ovsschema "$tree/usr/share/openvswitch/"
    echo "root:x:0:0:root:/root:/bin/sh" >"$tree/etc/passwd"
    echo "root:x:0:" >"$tree/etc/group"
    add_program "$target/debug/examples/guest_smoke" opt/quantumnet/guest_smoke
    # The programs under test come along when they have been built.
    for program in quantumnet-controller quantumnet-agent; do
        [ ! -x "$target/debug/$program" ] || add_program "$target/debug/$program" "opt/quantumnet/$program"
    done
    echo system >"$tree/etc/datapath"
    cp "$here/init" "$tree/init"
    chmod 755 "$tree/init"
}

add_modules() {
    depmod -b "$work/kernel" "$version"
    for module in $modules; do
        modprobe -d "$work/kernel" -S "$version" -n --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' >"$work/modules"
    : >"$tree/etc/modules.list"
    while read -r file; do
        inside=${file#"$work/kernel"}
        inside=/usr${inside#/usr}
        mkdir -p "$tree$(dirname "$inside")"
        cp "$file" "$tree$inside"
        echo "$inside" >>"$tree/etc/modules.list"
    done <"$work/modules"
}

boot() {
    timeout -k 5 "$time_limit" qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 1024 \
        -kernel "$kernel" -initrd "$work/initramfs.gz" -append "console=ttyS0 quiet panic=-1" \
        -nographic -no-reboot -net none </dev/null >"$1" 2>&1 || true
    tr -d '\r' <"$1" | grep -ao 'QN-GUEST.*' || true
    tr -d '\r' <"$1" | grep -aq 'QN-GUEST EXIT 0$'
}

need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need depmod kmod
need gzip gzip
unpack_kernel
kernel=$(ls "$work"/kernel/boot/vmlinuz-* | head -n 1)
version=${kernel##*/vmlinuz-}
cargo build --manifest-path "$root/Cargo.toml" -p quantumnet-testbed --example guest_smoke
build_tree
add_modules
(cd "$tree" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs.gz"

boot "$work/serial-1.log" && exit 0
echo "guest: first run failed (log in $work/serial-1.log), once more" >&2
boot "$work/serial-2.log" || fail "second run failed too, log in $work/serial-2.log"
