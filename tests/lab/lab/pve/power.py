"""Power: a machine follows its VM's status, and the status follows a machine that stops by itself."""

import asyncio
import re
import time

from fakepve import PveError, TaskError
from fakepve.lxc import split_props
from fakepve.qemu import NET_MODELS, drives_of, is_cdrom

from ..image import by_digest
from ..machines import CannotStart, Drive, Machine, Nic, Plan

SHUTDOWN_TIMEOUT = 60


class Power:
    """Mixin of LabPve."""

    def _setup_power(self) -> None:
        self.machines: dict[int, Machine] = {}
        self._stopped: dict[int, asyncio.Event] = {}

    async def follow(self, ttype: str, vm) -> None:
        """Makes the machine what the VM's status says after a task of this type."""
        machine = self.machines.get(vm.vmid)
        if vm.status == "running" and machine is None:
            await self.boot(vm)
        elif vm.status != "running" and machine is not None:
            await self.cut_power(vm)
        elif ttype == "qmreset" and machine is not None:
            await machine.reset()

    async def boot(self, vm) -> None:
        plan = self.plan_of(vm)
        machine = self.make_machine(plan, lambda gone: self._machine_ended(vm, gone))
        await machine.start()
        self.machines[vm.vmid] = machine
        self._stopped[vm.vmid] = asyncio.Event()

    async def cut_power(self, vm) -> None:
        machine = self.machines.pop(vm.vmid, None)
        if machine is not None:
            await machine.kill()

    def _machine_ended(self, vm, gone: Machine) -> None:
        """The system inside has shut down, or was killed from outside."""
        if self.machines.get(vm.vmid) is gone:
            del self.machines[vm.vmid]
            vm.status = vm.qmpstatus = "stopped"
            self._stopped[vm.vmid].set()

    async def _powerdown(self, vm, p):
        """Presses the power button and waits as long as PVE does."""
        machine = self.machines.get(vm.vmid)
        timeout = int(p.get("timeout") or SHUTDOWN_TIMEOUT)
        if machine is None:
            vm.status = vm.qmpstatus = "stopped"
            return None
        await machine.press_power_button()
        try:
            await asyncio.wait_for(self._stopped[vm.vmid].wait(), timeout)
            return None
        except asyncio.TimeoutError:
            pass
        if str(p.get("forceStop", "0")) in ("1", "true"):
            await self.cut_power(vm)
            vm.status = vm.qmpstatus = "stopped"
            return "VM still running - terminating now with SIGTERM"
        raise TaskError("VM quit/powerdown failed - got timeout")

    async def power_loss(self, vm) -> None:
        """What no API call does: the machine is gone, and the VM stopped."""
        await self.cut_power(vm)
        vm.status = vm.qmpstatus = "stopped"

    async def power_on(self, vm) -> None:
        """An administrator starts the VM."""
        vm.apply_pending()
        await self.boot(vm)
        vm.status = vm.qmpstatus = "running"
        vm.started_at = time.time()

    # ------------------------------------------------------- what is started

    def plan_of(self, vm) -> Plan:
        config = vm.config
        smbios = split_props("x," + str(config.get("smbios1", "")))[1]
        drives = [self._drive(vm.node, key, volume, props) for key, volume, props in drives_of(config)]
        nics = [nic_of(key, str(config[key])) for key in sorted(config) if re.fullmatch(r"net\d+", key)]
        folder = self.settings.folder / "machines" / str(vm.vmid)
        uuid = smbios.get("uuid", f"00000000-0000-0000-0000-{vm.vmid:012d}")
        return Plan(vm.vmid, vm.name, uuid, folder, dict(config), drives, nics)

    def _drive(self, node: str, key: str, volume: str, props: dict) -> Drive:
        cdrom = is_cdrom(volume, props)
        if volume in ("none", "cdrom", ""):
            return Drive(key, None, cdrom, options=props)
        file = self.disks.path(volume)
        if not self.is_on(node, volume) or (self.disks.real and not file.exists()):
            raise CannotStart(f"volume '{volume}' does not exist")
        origin = self.disks.origin.get(volume)
        image = None if cdrom or origin is None else by_digest(self.cache, origin)
        return Drive(key, file, cdrom, image, props)

    # ------------------------------------------------------- guest agent

    async def _agent_call(self, match, values):
        vm = self.find(values["node"], values["vmid"])
        command = match.template.rsplit("/", 1)[1]
        if str(vm.config.get("agent", "0")).split(",")[0].split("=")[-1] != "1":
            raise PveError(500, "No QEMU guest agent configured")
        machine = self.machines.get(vm.vmid)
        if machine is None:
            raise PveError(500, f"VM {vm.vmid} is not running")
        answer = await machine.agent(command)
        if answer is None:
            raise PveError(500, "QEMU guest agent is not running")
        return {"result": answer}


def nic_of(key: str, value: str) -> Nic:
    """`virtio=BC:24:11:00:00:01,bridge=vmbr0` as a device."""
    props = dict(part.partition("=")[::2] for part in value.split(","))
    mac = next((props[model] for model in NET_MODELS if model in props), "")
    return Nic(int(key[3:]), mac.lower(), props.get("bridge", "vmbr0"), props.get("link_down") == "1")
