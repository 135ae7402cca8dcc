"""Power: a machine follows its VM's status, and the status follows a machine that stops by itself."""

import asyncio
import os
import re
import time

from fakepve import TaskError
from fakepve.lxc import split_props
from fakepve.qemu import NET_MODELS, drives_of, is_cdrom

from ..image import by_digest
from ..machines import CannotStart, Drive, Machine, Nic, Plan
from ..network import BRIDGES

SHUTDOWN_TIMEOUT = 60
NODE_CPUS = 4
# Seconds between a reboot's end and the start that the host makes of it.
RESTART_PAUSE = 0.3


class Power:
    """Mixin of LabPve."""

    def _setup_power(self) -> None:
        self.machines: dict[int, Machine] = {}
        self._stopped: dict[int, asyncio.Event] = {}
        self._restarts: set[asyncio.Future] = set()
        self.bridges = set(BRIDGES)

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
        self._check_start(vm)
        plan = self.plan_of(vm)
        machine = self.make_machine(plan, lambda gone: self._machine_ended(vm, gone))
        await machine.start()
        self.machines[vm.vmid] = machine
        self._stopped[vm.vmid] = asyncio.Event()

    def _check_start(self, vm) -> None:
        """What the node cannot give is found out at the start, not when it is written."""
        cpus = int(vm.config.get("cores", 1)) * int(vm.config.get("sockets", 1))
        if cpus > NODE_CPUS:
            raise CannotStart(f"MAX {NODE_CPUS} vcpus allowed per VM on this node")
        for key in sorted(key for key in vm.config if re.fullmatch(r"net\d+", key)):
            bridge = split_props(str(vm.config[key]))[1].get("bridge")
            if bridge and bridge not in self.bridges:
                raise CannotStart(f"bridge '{bridge}' does not exist")

    async def _do_reboot(self, vm, user, p):
        """The task is over when the VM is off, and good whatever comes. The host then starts the VM, by a task of its own."""
        self._need_running(vm)
        self._check_lock(vm)
        gone_off = asyncio.get_running_loop().create_future()

        async def body():
            try:
                return await self._powerdown(vm, p)
            finally:
                gone_off.set_result(vm.status != "running")

        async def start_again():
            if await gone_off:
                await asyncio.sleep(RESTART_PAUSE)
                await self._do_start(vm, "root@pam", {})

        upid = await self.task(vm.node, "qmreboot", vm.vmid, user, body, vm=vm)
        self._restarts.add(restart := asyncio.ensure_future(start_again()))
        restart.add_done_callback(self._restarts.discard)
        return upid

    async def restarted(self) -> None:
        """Returns when no start that a reboot makes is outstanding; for tests."""
        await asyncio.gather(*self._restarts)

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

    # ------------------------------------------------------- bridges

    def _routes_lab_power(self):
        return [
            ("GET", "/nodes/{node}/network", self._network_list),
            ("GET", "/nodes/{node}/status", self._node_status),
        ]

    async def _node_status(self, values, user):
        """What kind of machine the node is: the lab's own. Shape: pve-manager 8.2 and 9.1."""
        self.require(user, f"/nodes/{values['node']}", "Sys.Audit")
        system = os.uname()
        kernel = {"sysname": system.sysname, "release": system.release, "version": system.version, "machine": system.machine}
        return {"current-kernel": kernel}

    async def _network_list(self, values, user):
        """The node's card and bridges; with `type`, those of the type."""
        card = {"iface": "eno1", "type": "eth", "exists": 1, "active": 1}
        bridges = [{"iface": name, "type": "bridge", "active": 1, "autostart": 1} for name in sorted(self.bridges) if self.may_use(user, name)]
        kind = values.get("type")
        shown = [card, *bridges] if kind is None else bridges if kind in ("bridge", "any_bridge", "any_local_bridge") else []
        return [row | {"method": "manual", "method6": "manual", "priority": 3} for row in shown]

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


def nic_of(key: str, value: str) -> Nic:
    """`virtio=BC:24:11:00:00:01,bridge=vmbr0` as a device."""
    props = dict(part.partition("=")[::2] for part in value.split(","))
    mac = next((props[model] for model in NET_MODELS if model in props), "")
    return Nic(int(key[3:]), mac.lower(), props.get("bridge", "vmbr0"), props.get("link_down") == "1")
