"""The lab's network: bridges in a namespace of their own, joined to the host by one cable.

Machines reach the lab (addresses .1 of the subnet and 169.254.77.1, where packages are served) and one another;
the namespace forwards nothing, so that is all they reach. The host reaches every machine at its own address.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
import threading

from . import dhcp
from .run import Failed, run, run_any
from .settings import BRIDGES, Settings

# The same in every lab, so that a machine image can name it.
WELL_KNOWN = "169.254.77.1"


class Network:
    """One lab's network."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.namespace = settings.tag
        self._heard: list[socket.socket] = []

    async def up(self) -> None:
        await self.down()
        tag = self.namespace
        await run("ip", "netns", "add", tag)
        await self._inside("link", "set", "lo", "up")
        for index, bridge in enumerate(BRIDGES):
            # With an address of its own, as a host's bridge has its network card's. Otherwise it takes the lowest of its ports', another
            # one when that machine is destroyed, and the others go on sending to the old one for half a minute.
            address = ("address", f"02:00:00:00:00:{index + 1:02x}")
            await self._inside("link", "add", bridge, *address, "type", "bridge", "forward_delay", "0")
            await self._inside("link", "set", bridge, "up")
        await self._inside("addr", "add", f"{self.settings.address(1)}/24", "dev", BRIDGES[0])
        await self._inside("addr", "add", f"{WELL_KNOWN}/32", "dev", BRIDGES[0])
        await run("ip", "link", "add", tag, "type", "veth", "peer", "name", "host", "netns", tag)
        await self._inside("link", "set", "host", "master", BRIDGES[0], "up")
        await run("ip", "addr", "add", f"{self.settings.address(254)}/24", "dev", tag)
        await run("ip", "link", "set", tag, "up")
        # The host is no way out either, whatever it forwards for others.
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv4/conf/{tag}/forwarding", "w") as forwarding:
            forwarding.write("0")

    async def down(self) -> None:
        """Takes away whatever a lab of this number has or had; killing the namespace takes the cable with it."""
        while self._heard:
            heard = self._heard.pop()
            asyncio.get_running_loop().remove_reader(heard)
            heard.close()
        for name in await self.leftovers():
            if name.startswith("netns "):
                await run_any("ip", "netns", "del", name.removeprefix("netns "))
            else:
                await run_any("ip", "link", "del", name.removeprefix("link "))

    async def leftovers(self) -> list[str]:
        """Names of this lab in the host's network."""
        names = (line.split()[0] for line in (await run("ip", "netns", "list")).splitlines() if line.strip())
        found = [f"netns {name}" for name in names if name == self.namespace or name.startswith(f"{self.namespace}-")]
        if os.path.exists(f"/sys/class/net/{self.namespace}"):
            found.append(f"link {self.namespace}")
        return found

    async def plug_container(self, vmid: int, index: int, mac: str, bridge: str) -> None:
        """Puts `eth<index>` of a container's namespace on a bridge; makes the namespace with the first one."""
        namespace = self.container_namespace(vmid)
        if not os.path.exists(f"/run/netns/{namespace}"):
            await run("ip", "netns", "add", namespace)
        port = f"veth{vmid}i{index}"
        peer = ("peer", "name", f"eth{index}", "address", mac, "netns", namespace)
        await self._inside("link", "add", port, "type", "veth", *peer)
        await self._inside("link", "set", port, "master", self._bridge(bridge), "up")

    async def unplug_container(self, vmid: int) -> None:
        namespace = self.container_namespace(vmid)
        for name in await self._ports(f"veth{vmid}i"):
            await run_any("ip", "-n", self.namespace, "link", "del", name)
        if os.path.exists(f"/run/netns/{namespace}"):
            await run("ip", "netns", "del", namespace)

    async def unplug_nic(self, vmid: int, index: int) -> None:
        """Takes one cable of a container away, and its other end with it."""
        await run_any("ip", "-n", self.namespace, "link", "del", f"veth{vmid}i{index}")

    async def plug_vm(self, vmid: int, index: int, bridge: str) -> str:
        """A tap device on a bridge; its name."""
        port = f"tap{vmid}i{index}"
        await run_any("ip", "-n", self.namespace, "link", "del", port)
        await self._inside("tuntap", "add", "dev", port, "mode", "tap")
        await self._inside("link", "set", port, "master", self._bridge(bridge), "up")
        return port

    async def unplug_vm(self, vmid: int) -> None:
        for name in await self._ports(f"tap{vmid}i"):
            await run_any("ip", "-n", self.namespace, "link", "del", name)

    def container_namespace(self, vmid: int) -> str:
        return f"{self.namespace}-{vmid}"

    async def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket inside the lab's network, for a server that runs outside of it."""
        return await asyncio.to_thread(
            _inside, self.namespace, lambda: socket.create_server((address, port), backlog=64)
        )

    async def answer_router_solicitations(self) -> None:
        """Tells machines that ask that there is no IPv6 router, so that they do not wait for one."""
        for bridge in BRIDGES:
            heard = await asyncio.to_thread(_inside, self.namespace, lambda bridge=bridge: _router_socket(bridge))
            self._heard.append(heard)
            asyncio.get_running_loop().add_reader(heard, self._answer_solicitation, heard)

    async def give_addresses(self) -> None:
        """Gives an address to every machine on the first bridge that asks for one."""
        heard = await asyncio.to_thread(_inside, self.namespace, lambda: dhcp.listening(BRIDGES[0]))
        self._heard.append(heard)
        server = dhcp.Dhcp(self.settings.address(0).removesuffix("0"))
        asyncio.get_running_loop().add_reader(heard, server.answer, heard)

    @staticmethod
    def _answer_solicitation(heard: socket.socket) -> None:
        with contextlib.suppress(OSError):
            packet, _ = heard.recvfrom(1500)
            if packet[:1] == bytes([ROUTER_SOLICITATION]):
                heard.sendto(NO_ROUTER, ("ff02::1", 0))

    def _bridge(self, name: str) -> str:
        if name not in BRIDGES:
            raise Failed(f"bridge '{name}' does not exist")
        return name

    async def _ports(self, prefix: str) -> list[str]:
        lines = (await run("ip", "-n", self.namespace, "-o", "link")).splitlines()
        names = (line.split(":")[1].strip().split("@")[0] for line in lines)
        return [name for name in names if name.startswith(prefix)]

    async def _inside(self, *argv: str) -> str:
        return await run("ip", "-n", self.namespace, *argv)


def _inside(namespace: str, make):
    """What `make` returns in a namespace. A socket stays in the one its thread was in; this process never leaves its own."""
    made: list = []

    def enter() -> None:
        try:
            with open(f"/run/netns/{namespace}") as handle:
                _setns(handle.fileno())
            made.append(make())
        except OSError as problem:
            made.append(problem)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _setns(descriptor: int) -> None:
    """os.setns is in Python from 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _router_socket(bridge: str) -> socket.socket:
    """A socket that hears router solicitations on a bridge and may answer them."""
    index = socket.if_nametoindex(bridge)
    made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    made.setblocking(False)
    # Bound to the bridge: it stands in a namespace where no other interface of that name can be.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
    group = socket.inet_pton(socket.AF_INET6, "ff02::2") + index.to_bytes(4, sys.byteorder)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    return made


CLONE_NEWNET = 0x40000000
ROUTER_SOLICITATION = 133
# A router advertisement by which nobody becomes a router: it ends systemd-networkd's wait for one, 12 s otherwise.
NO_ROUTER = bytes([134, 0, 0, 0, 64, 0, 0, 0]) + bytes(8)
