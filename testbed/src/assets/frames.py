"""Sends raw frames on one interface and collects what arrives. Order and answer are JSON on stdin and stdout."""

import errno
import json
import random
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
PACKET_OUTGOING = 4


def mac_bytes(text):
    return bytes(int(part, 16) for part in text.split(":"))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def random_mac(number):
    return b"\x0a\x5e" + struct.pack("!I", number & 0xFFFFFFFF)


def flood_frames(order):
    flood, own = order["flood"], mac_bytes(order["mac"])
    kind, rng = flood["kind"], random.Random(1)
    for number in range(order["count"]):
        if kind == "random-mac":
            yield b"\xff" * 6 + random_mac(number) + b"\x88\xb5" + bytes(46)
        elif kind == "arp":
            network = socket.inet_aton(flood["network"])[:2]
            target = network + struct.pack("!H", rng.randrange(1, 65535))
            yield (b"\xff" * 6 + own + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
                   + own + socket.inet_aton(flood["sender"]) + bytes(6) + target + bytes(18))
        elif kind == "dhcp-discover":
            client = random_mac(number)
            payload = (struct.pack("!BBBBIHH", 1, 1, 6, 0, number, 0, 0x8000) + bytes(16) + client
                       + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63" + b"\x35\x01\x01\xff")
            udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0,
                               bytes(4), b"\xff" * 4)
            head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
            yield b"\xff" * 6 + own + b"\x08\x00" + head + udp


def send(sock, frame):
    while True:
        try:
            sock.send(frame)
            return
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.EAGAIN):
                raise
            select.select([], [sock], [], 0.01)


def is_answer(frame, xid):
    """A DHCP server's answer to this transaction, in IPv4 without VLAN tag."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return False
    header = 14 + (frame[14] & 15) * 4
    return (frame[header + 2:header + 4] == struct.pack("!H", 68)
            and frame[header + 12:header + 16] == struct.pack("!I", xid))


def collect(sock, milliseconds, most, xid):
    frames, deadline = [], time.monotonic() + milliseconds / 1000
    while len(frames) < most:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            break
        frame, address = sock.recvfrom(65536)
        if address[2] != PACKET_OUTGOING and (xid is None or is_answer(frame, xid)):
            frames.append(frame.hex())
    return frames


def main():
    order = json.load(sys.stdin)
    # Without a protocol the socket hears nothing, so a flood is not slowed down by its own echo.
    protocol = socket.htons(ETH_P_ALL) if order["collect_ms"] else 0
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    sock.bind((order["interface"], ETH_P_ALL if order["collect_ms"] else 0))
    sent = 0
    for _ in range(order["repeat"]):
        for frame in order["send"]:
            send(sock, bytes.fromhex(frame))
            sent += 1
    if order["flood"]:
        for frame in flood_frames(order):
            send(sock, frame)
            sent += 1
    frames = collect(sock, order["collect_ms"], order["most"], order["xid"])
    json.dump({"sent": sent, "frames": frames}, sys.stdout)


main()
