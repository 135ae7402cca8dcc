"""Machines as systemd containers: the image's own systemd boots in a second or two.

The root is an overlay: the image's folder below, the VM's own changes above. It is mounted in a mount namespace of
the container's, so that nothing is left of it when the container ends, however it ends. The seed on an inserted
CD-ROM shows as /var/lib/cloud/seed/nocloud, for the kernel may not know ISO 9660.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal

from .. import cgroups, iso
from ..network import Network
from ..run import Failed, run, run_any
from . import CannotStart, Drive, Machine, Nic
from .guest import Guest

HERE = pathlib.Path(__file__).parent
SEED = "/var/lib/cloud/seed/nocloud"
# systemd's own meaning of these signals, sent to its first process.
POWER_OFF = signal.SIGRTMIN + 4


class Container(Machine):
    """One systemd container."""

    def __init__(self, plan, on_exit, network: Network):
        super().__init__(plan, on_exit)
        self.network = network
        self.tag = network.container_namespace(plan.vmid)
        self.process: asyncio.subprocess.Process | None = None
        self.guest: Guest | None = None

    async def start(self) -> None:
        boot = self.plan.boot_disk()
        if boot is None or boot.image is None:
            # As a VM without a bootable disk: it runs, and nothing happens in it.
            return
        try:
            await self._prepare(boot)
            await self._launch(boot)
        except (Failed, OSError) as problem:
            await self.kill()
            raise CannotStart(f"start failed: {problem}") from problem

    async def _prepare(self, boot: Drive) -> None:
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        for name in ("upper", "work", "root", "containerd"):
            (tree_of(boot) / name).mkdir(parents=True, exist_ok=True)
        for drive in self.plan.drives:
            if drive.cdrom:
                await self.change_medium(drive.key, drive.file)
        cgroups.make(self.tag)
        for nic in self.plan.nics:
            await self.network.plug_container(self.plan.vmid, nic.index, nic.mac, nic.bridge)
        if not self.plan.nics:
            await run("ip", "netns", "add", self.tag)

    async def _launch(self, boot: Drive) -> None:
        tree = tree_of(boot)
        overlay = f"lowerdir={boot.image.root},upperdir={tree / 'upper'},workdir={tree / 'work'}"
        console = (self.plan.folder / "console.log").open("ab")
        with console:
            self.process = await asyncio.create_subprocess_exec(
                *("unshare", "--mount", "--propagation", "private", "/bin/sh", HERE / "nspawn-launch.sh"),
                *(self.tag, overlay, tree / "root"),
                f"--machine={self.tag}",
                "--hostname=localhost",
                f"--network-namespace-path=/run/netns/{self.tag}",
                f"--uuid={self.plan.uuid}",
                f"--bind-ro={HERE / 'nspawn-init.sh'}:/usr/lib/lab-init",
                f"--bind-ro={self._seed()}:{SEED}",
                # containerd's overlays cannot lie on an overlay.
                f"--bind={tree / 'containerd'}:/var/lib/containerd",
                *("/bin/sh", "/usr/lib/lab-init", self.plan.uuid),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.watch = asyncio.ensure_future(self._watch(self.process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        await self._clear()
        self.on_exit(self)

    async def kill(self) -> None:
        process, self.process = self.process, None
        if process is None:
            await self._clear()
            return
        leader = _leader(process.pid)
        # nspawn stays behind while its first process is being killed; without one it ends by itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader or process.pid, signal.SIGKILL)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await self.watch

    async def _clear(self) -> None:
        """Takes away what the host keeps for the container."""
        await asyncio.to_thread(cgroups.remove, self.tag)
        with contextlib.suppress(Failed):
            await self.network.unplug_container(self.plan.vmid)
        with contextlib.suppress(OSError):
            os.rmdir(f"/run/systemd/nspawn/propagate/{self.tag}")

    async def press_power_button(self) -> None:
        leader = self._running_leader()
        if leader is None:
            # Nothing boots in it, so nothing would react; a lab is no place to wait for that.
            self.on_exit(self)
        else:
            os.kill(leader, POWER_OFF)

    async def reset(self) -> None:
        if self.process is None:
            return
        on_exit, self.on_exit = self.on_exit, lambda _machine: None
        try:
            await self.kill()
        finally:
            self.on_exit = on_exit
        await self.start()

    async def change_medium(self, key: str, file: pathlib.Path | None) -> None:
        self.plan = self.plan.with_medium(key, file)
        seed = self._seed()
        await asyncio.to_thread(_empty, seed)
        if file is not None and iso.label(file).lower() == "cidata":
            await iso.extract(file, seed)

    def _seed(self) -> pathlib.Path:
        seed = self.plan.folder / "seed"
        seed.mkdir(parents=True, exist_ok=True, mode=0o700)
        return seed

    async def plug_nic(self, nic: Nic) -> bool:
        if self._running_leader() is not None:
            await self.network.plug_container(self.plan.vmid, nic.index, nic.mac, nic.bridge)
        return True

    async def unplug_nic(self, index: int) -> bool:
        await self.network.unplug_nic(self.plan.vmid, index)
        return True

    async def execute(self, argv: list[str], stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        leader = self._running_leader()
        if leader is None:
            raise Failed("the machine is not running")
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ("nsenter", "--target", leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
        return await run_any(*inside, "--", "/usr/bin/env", "-i", path, "HOME=/root", "TERM=dumb", *argv, stdin=stdin)

    async def agent(self, command: str, **arguments) -> object | None:
        leader = self._running_leader()
        if leader is None:
            return None
        root = f"/proc/{leader}/root"
        if self.guest is None or self.guest.root != root:
            self.guest = Guest(root, self.execute)
        if not self.guest.runs:
            return None
        if command == "network-get-interfaces":
            return _interfaces(await run("nsenter", "--target", leader, "--net", "--", "ip", "-json", "address"))
        if command == "get-host-name":
            return {"host-name": (await run("nsenter", "--target", leader, "--uts", "--", "hostname")).strip()}
        if command == "get-osinfo":
            return _osinfo(self.guest.read("/etc/os-release"))
        return await self.guest.call(command, **arguments)

    def _running_leader(self) -> int | None:
        return _leader(self.process.pid) if self.process and self.process.returncode is None else None


def tree_of(disk: Drive) -> pathlib.Path:
    """Where a disk's content lies as files: beside the disk, so that it is copied and removed with it."""
    return disk.file.with_name(disk.file.name + ".tree")


def _leader(nspawn: int) -> int | None:
    """The container's first process: nspawn's only child."""
    try:
        children = pathlib.Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None


def _empty(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _interfaces(text: str) -> list[dict]:
    """`ip -json address` in the guest agent's words."""
    found = []
    for link in json.loads(text):
        item = {"name": link["ifname"], "hardware-address": link.get("address", "00:00:00:00:00:00")}
        addresses = [
            {
                "ip-address": address["local"],
                "ip-address-type": "ipv4" if address["family"] == "inet" else "ipv6",
                "prefix": address["prefixlen"],
            }
            for address in link.get("addr_info", [])
        ]
        found.append({**item, "ip-addresses": addresses} if addresses else item)
    return found


def _osinfo(text: str) -> dict:
    lines = dict(line.replace('"', "").split("=", 1) for line in text.splitlines() if "=" in line)
    system = os.uname()
    return {
        "id": lines.get("ID", ""),
        "name": lines.get("NAME", ""),
        "pretty-name": lines.get("PRETTY_NAME", ""),
        "version": lines.get("VERSION", ""),
        "version-id": lines.get("VERSION_ID", ""),
        "kernel-release": system.release,
        "kernel-version": system.version,
        "machine": system.machine,
    }
