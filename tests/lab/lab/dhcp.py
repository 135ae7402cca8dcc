"""Addresses for machines that ask: a DHCP server for one bridge, with an address per hardware address.

Source: RFC 2131 and 2132, as far as clients need it that want an address and nothing else.
"""

import contextlib
import socket

# Above what tests and examples give by hand, below the host's own .254.
POOL = range(200, 254)
MAGIC = bytes([99, 130, 83, 99])
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
LEASE_SECONDS = 3600


class Dhcp:
    """Answers on one socket; `prefix` is `10.77.3.` of a /24 whose `.1` is the lab."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.leases: dict[bytes, str] = {}

    def answer(self, heard: socket.socket) -> None:
        """Reads one packet and answers it, if it asks for anything."""
        with contextlib.suppress(OSError):
            packet, _ = heard.recvfrom(2048)
            reply = self.reply(packet)
            if reply:
                heard.sendto(reply, ("255.255.255.255", 68))

    def reply(self, packet: bytes) -> bytes | None:
        """The answer to a packet; None for what is no question."""
        asked = options(packet[240:]).get(53, b"") if packet[236:240] == MAGIC else b""
        kind = {DISCOVER: OFFER, REQUEST: ACK}.get(asked[0]) if asked else None
        address = self.lease(packet[28:34])
        if kind is None or address is None:
            return None
        server, own = (socket.inet_aton(text) for text in (f"{self.prefix}1", address))
        head = bytes([2, 1, 6, 0]) + packet[4:8] + bytes(2) + packet[10:12] + bytes(4) + own + server + bytes(4)
        given = {53: bytes([kind]), 54: server, 51: LEASE_SECONDS.to_bytes(4, "big"), 1: bytes([255, 255, 255, 0])}
        tail = b"".join(bytes([code, len(value)]) + value for code, value in given.items()) + b"\xff"
        return (head + packet[28:44] + bytes(192) + MAGIC + tail).ljust(300, b"\0")

    def lease(self, mac: bytes) -> str | None:
        """The same address for the same hardware address as long as the lab lives."""
        if mac not in self.leases:
            taken = set(self.leases.values())
            free = (f"{self.prefix}{last}" for last in POOL if f"{self.prefix}{last}" not in taken)
            address = next(free, None)
            if address is None:
                return None
            self.leases[mac] = address
        return self.leases[mac]


def options(text: bytes) -> dict[int, bytes]:
    """The options of a packet by number."""
    found, at = {}, 0
    while at + 1 < len(text) and text[at] != 255:
        if text[at] == 0:
            at += 1
            continue
        length = text[at + 1]
        found[text[at]] = text[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def listening(bridge: str) -> socket.socket:
    """A socket that hears the bridge's machines ask; to be made in the bridge's namespace."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
    made.bind(("", 67))
    return made
