"""Machines as virtual machines: a kernel of their own, real disks, a real CD-ROM with the seed.

KVM is used when it really runs a guest, software emulation otherwise. The machine image boots with its kernel given
directly, which saves the firmware's and the boot loader's time; any other disk boots by its own boot loader.
IDE and SATA CD-ROMs become SCSI ones: cloud kernels have no driver for the older buses.
"""

import asyncio
import base64
import contextlib
import os
import pathlib
import platform
import shutil
import urllib.parse

from .. import accelerator, cgroups
from ..network import Network
from ..run import Failed
from . import CannotStart, Drive, Machine, Nic
from .guest import GuestError
from .qmp import GuestAgent, NoAnswer, Qmp, SaidNo

FIRMWARE = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_CODE.fd")
KERNEL_LINE = "root=LABEL=root ro console=tty0 console={console} quiet loglevel=4 mitigations=off random.trust_cpu=on"
# CPU models of the configuration are left to real hosts: QEMU alone does not know Proxmox VE's own. This one is
# x86-64-v2, which every distribution of today runs on; wider vectors only cost when they are emulated.
EMULATED_CPU = "Nehalem" if platform.machine() == "x86_64" else "max"
SERIAL = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
# A started QEMU is in control of its sockets long before; a broken command line ends at once.
QMP_TIMEOUT = 30
AGENT_TIMEOUT = 60


class VirtualMachine(Machine):
    """One QEMU process."""

    def __init__(self, plan, on_exit, network: Network, kernel: pathlib.Path):
        super().__init__(plan, on_exit)
        self.network = network
        self.kernel = kernel
        self.process: asyncio.subprocess.Process | None = None
        self.qmp: Qmp | None = None
        self.guest = GuestAgent(plan.folder / "qga.sock")
        self.tag = network.container_namespace(plan.vmid)

    grows_disks_itself = True

    async def start(self) -> None:
        try:
            self.plan.folder.mkdir(parents=True, exist_ok=True)
            cgroups.make(self.tag)
            ports = [await self.network.plug_vm(self.plan.vmid, nic.index, nic.bridge) for nic in self.plan.nics]
            await self._launch(ports)
            self.qmp = await self._connect()
        except (Failed, NoAnswer, OSError) as problem:
            last = self._last_words()
            await self.kill()
            raise CannotStart(f"start failed: {problem} {last}".strip()) from problem

    async def _launch(self, ports: list[str]) -> None:
        command = [*command_line(self.plan, await accelerator.best(self.kernel)), *network_devices(self.plan.nics, ports)]
        inside = ("nsenter", f"--net=/run/netns/{self.network.namespace}", "--")
        group = "for g in /sys/fs/cgroup/$0 /sys/fs/cgroup/*/$0; do [ -d $g ] && echo $$ >$g/cgroup.procs; done; exec \"$@\""
        log = (self.plan.folder / "qemu.log").open("wb")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", group, self.tag, *inside, *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.watch = asyncio.ensure_future(self._watch(self.process))

    async def _connect(self) -> Qmp:
        path = self.plan.folder / "qmp.sock"
        for _ in range(QMP_TIMEOUT * 20):
            if self.process.returncode is not None:
                raise NoAnswer(f"QEMU exited with code {self.process.returncode}")
            with contextlib.suppress(OSError):
                return await Qmp.connect(path, lambda _event: None)
            await asyncio.sleep(0.05)
        raise NoAnswer("got timeout")

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        await self._clear()
        self.on_exit(self)

    async def kill(self) -> None:
        process, self.process = self.process, None
        if process is None:
            await self._clear()
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await self.watch

    async def _clear(self) -> None:
        if self.qmp is not None:
            self.qmp.close()
        await asyncio.to_thread(cgroups.remove, self.tag)
        await self.network.unplug_vm(self.plan.vmid)

    def _last_words(self) -> str:
        log = self.plan.folder / "qemu.log"
        return " ".join(log.read_text(errors="replace").split("\n")[-4:]) if log.exists() else ""

    async def press_power_button(self) -> None:
        await self.qmp.call("system_powerdown")

    async def reset(self) -> None:
        await self.qmp.call("system_reset")

    async def change_medium(self, key: str, file: pathlib.Path | None) -> None:
        await self.qmp.call("eject", id=f"dev-{key}", force=True)
        if file is not None:
            await self.qmp.call("blockdev-change-medium", id=f"dev-{key}", filename=str(file), format="raw")

    async def attach_disk(self, drive: Drive) -> bool:
        bus, device = device_of(drive)
        where = {"bus": bus} if bus else {}
        key = drive.key
        try:
            await self.qmp.call("blockdev-add", **block_node(drive))
            name = {"drive": f"disk-{key}", "id": f"dev-{key}", "serial": serial_of(drive)}
            await self.qmp.call("device_add", driver=device, **where, **name)
        except NoAnswer as problem:
            raise Failed(f"hotplug problem - {problem}") from problem
        return True

    async def detach_disk(self, key: str) -> bool:
        try:
            await self.qmp.call("device_del", id=f"dev-{key}")
            for _ in range(50):
                await asyncio.sleep(0.1)
                with contextlib.suppress(NoAnswer):
                    await self.qmp.call("blockdev-del", **{"node-name": f"disk-{key}"})
                    return True
        except NoAnswer:
            pass
        return False

    async def plug_nic(self, nic: Nic) -> bool:
        try:
            port = await self.network.plug_vm(self.plan.vmid, nic.index, nic.bridge)
            tap = {"ifname": port, "script": "no", "downscript": "no"}
            await self.qmp.call("netdev_add", type="tap", id=port, **tap)
            await self.qmp.call("device_add", driver="virtio-net-pci", netdev=port, mac=nic.mac, id=f"nic-{nic.index}")
            return True
        except NoAnswer:
            return False

    async def unplug_nic(self, index: int) -> bool:
        try:
            await self.qmp.call("device_del", id=f"nic-{index}")
            for _ in range(50):
                await asyncio.sleep(0.1)
                with contextlib.suppress(NoAnswer):
                    await self.qmp.call("netdev_del", id=f"tap{self.plan.vmid}i{index}")
                    return True
        except NoAnswer:
            pass
        return False

    async def grow_disk(self, key: str, size: int) -> None:
        await self.qmp.call("block_resize", **{"node-name": f"disk-{key}", "size": size})

    async def execute(self, argv: list[str], stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        try:
            return await self._execute(argv, stdin)
        except NoAnswer as problem:
            raise Failed(str(problem)) from problem

    async def _execute(self, argv: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        await self._until_the_agent_runs()
        arguments = {"path": "/usr/bin/env", "arg": list(argv), "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = (await self.guest.call("guest-exec", timeout=30, **arguments))["pid"]
        while True:
            status = await self.guest.call("guest-exec-status", timeout=30, pid=pid)
            if status["exited"]:
                out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
                return status.get("exitcode", 128 + status.get("signal", 0)), out, err
            await asyncio.sleep(0.1)

    async def _until_the_agent_runs(self) -> None:
        """A machine that is still booting is worth waiting for."""
        for _ in range(AGENT_TIMEOUT):
            with contextlib.suppress(NoAnswer):
                await self.guest.call("guest-ping", timeout=2)
                return
            if self.process is None or self.process.returncode is not None:
                break
            await asyncio.sleep(0.5)
        raise NoAnswer("no guest agent answers: the machine has not booted, or its image has none")

    async def agent(self, command: str, **arguments) -> object | None:
        try:
            return await self.guest.call(f"guest-{command}", timeout=10 if arguments else 3, **arguments)
        except SaidNo as problem:
            raise GuestError(str(problem)) from problem
        except NoAnswer:
            return None


# ------------------------------------------------------- the command line


def command_line(plan, acceleration: str) -> list[str]:
    """QEMU's arguments, but for the network: that is known only once its ports are made."""
    machine = platform.machine()
    config, folder = plan.config, plan.folder
    cores = int(config.get("cores", 1)) * int(config.get("sockets", 1))
    argv = [
        f"qemu-system-{machine}",
        *("-name", plan.name, "-nodefaults", "-display", "none", "-no-user-config"),
        *("-machine", machine_type(config), "-accel", acceleration),
        *("-cpu", "host" if acceleration == "kvm" else EMULATED_CPU, "-smp", str(cores)),
        *("-m", str(config.get("memory", 512)).split("=")[-1], "-uuid", plan.uuid),
        *("-smbios", f"type=1,manufacturer=QEMU,product=Groundwork lab,uuid={plan.uuid}"),
        *("-qmp", f"unix:{folder / 'qmp.sock'},server=on,wait=off"),
        *("-chardev", f"file,id=console,path={folder / 'console.log'},append=on", "-serial", "chardev:console"),
        *("-device", "virtio-rng-pci"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=qga,path={folder / 'qga.sock'},server=on,wait=off"),
        *("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
        *("-device", "virtio-scsi-pci,id=scsi"),
    ]
    return [*argv, *boot_arguments(plan), *(word for drive in plan.drives for word in drive_arguments(drive))]


def machine_type(config: dict) -> str:
    """As PVE: the old chipset unless the configuration names the newer one, whose root bus takes no hot plug."""
    if platform.machine() != "x86_64":
        return "virt"
    return "q35,usb=off" if "q35" in str(config.get("machine", "")) else "pc,usb=off"


def boot_arguments(plan) -> list[str]:
    boot = plan.boot_disk()
    if boot is None or boot.image is None:
        return firmware_arguments(plan)
    line = KERNEL_LINE.format(console=SERIAL[platform.machine()])
    kernel = ["-kernel", str(boot.image.kernel), "-initrd", str(boot.image.initrd), "-append", line]
    return [*(firmware_arguments(plan) if plan.config.get("bios") == "ovmf" else []), *kernel]


def firmware_arguments(plan) -> list[str]:
    """QEMU's own SeaBIOS needs none."""
    if plan.config.get("bios") != "ovmf" and platform.machine() == "x86_64":
        return []
    firmware = next((path for path in FIRMWARE if os.path.exists(path)), None)
    if firmware is None:
        raise Failed("UEFI firmware is not installed: package ovmf")
    variables = plan.folder / "efivars.fd"
    if not variables.exists():
        shutil.copy(firmware.replace("CODE", "VARS"), variables)
    return [
        *("-drive", f"if=pflash,format=raw,readonly=on,file={firmware}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
    ]


def drive_arguments(drive: Drive) -> list[str]:
    if drive.key.startswith(("efidisk", "tpmstate")):
        return []
    if drive.cdrom:
        made = ["-device", f"scsi-cd,bus=scsi.0,id=dev-{drive.key}" + (f",drive=disk-{drive.key}" if drive.file else "")]
        if drive.file is None:
            return made
        # -drive, for its medium can be changed later without a named node being in the way.
        return ["-drive", f"if=none,id=disk-{drive.key},format=raw,readonly=on,file={drive.file}", *made]
    bus, device = device_of(drive)
    place = f",bus={bus}" if bus else ""
    node = f"driver=qcow2,node-name=disk-{drive.key},discard=unmap,file.driver=file,file.filename={drive.file}"
    name = f"drive=disk-{drive.key},id=dev-{drive.key},serial={serial_of(drive).replace(',', ',,')}"
    return ["-blockdev", node, "-device", f"{device}{place},{name}"]


def serial_of(drive: Drive) -> str:
    """What the guest makes the disk's name in /dev/disk/by-id of: the option `serial`, or the name that QEMU gives on Proxmox VE."""
    return urllib.parse.unquote(drive.options.get("serial", f"drive-{drive.key}"))


def device_of(drive: Drive) -> tuple[str, str]:
    """(bus, device) of a disk; older buses become SCSI, as CD-ROMs do."""
    return ("", "virtio-blk-pci") if drive.key.startswith("virtio") else ("scsi.0", "scsi-hd")


def block_node(drive: Drive) -> dict:
    file = {"driver": "file", "filename": str(drive.file)}
    return {"driver": "qcow2", "node-name": f"disk-{drive.key}", "discard": "unmap", "file": file}


def network_devices(nics: list[Nic], ports: list[str]) -> list[str]:
    argv = []
    for nic, port in zip(nics, ports, strict=True):
        netdev = f"tap,id={port},ifname={port},script=no,downscript=no"
        argv += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev={port},mac={nic.mac},id=nic-{nic.index},romfile="]
    return argv
