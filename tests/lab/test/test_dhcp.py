"""Addresses by DHCP."""

import socket
import unittest

from lab.dhcp import MAGIC, Dhcp, options


def question(kind: int, mac: bytes) -> bytes:
    head = bytes([1, 1, 6, 0]) + b"abcd" + bytes(20) + mac + bytes(10) + bytes(192)
    return head + MAGIC + bytes([53, 1, kind, 255])


class Dhcps(unittest.TestCase):
    def test_a_machine_gets_the_address_that_it_was_offered(self):
        server = Dhcp("10.77.3.")
        first, second = bytes([2, 0, 0, 0, 0, 1]), bytes([2, 0, 0, 0, 0, 2])
        offer, ack = server.reply(question(1, first)), server.reply(question(3, first))
        self.assertEqual((offer[4:8], options(offer[240:])[53]), (b"abcd", b"\x02"))
        self.assertEqual(options(ack[240:])[53], b"\x05")
        self.assertEqual(offer[16:20], ack[16:20])
        self.assertEqual(socket.inet_ntoa(ack[16:20]), "10.77.3.200")
        self.assertEqual(socket.inet_ntoa(server.reply(question(1, second))[16:20]), "10.77.3.201")

    def test_what_asks_for_nothing_gets_no_answer(self):
        self.assertIsNone(Dhcp("10.77.3.").reply(question(7, bytes(6))))
        self.assertIsNone(Dhcp("10.77.3.").reply(b"noise"))
