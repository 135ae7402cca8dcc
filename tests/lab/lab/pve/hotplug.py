"""What a running VM takes at once, what waits for its next power cycle, and what is refused.

Source: behaviour of qemu-server 9.1 as seen on a Proxmox VE 9.1.8. Three things decide for a key: what it is, whether its class
stands in `hotplug`, and the guest. A key that waits does so as a whole line: with one sub-key of a disk that cannot change live,
the others of that disk wait too.
"""

import re

import fakepve.model
from fakepve import PveError
from fakepve.qemu import DRIVE_KEY, split_drive

from ..run import Failed
from .power import nic_of

ALWAYS_LIVE = re.compile(
    r"description|hookscript|lock|migrate_\w+|name|onboot|protection|shares|startup|tags|vmstatestorage|cpuunits|"
    r"cpulimit|balloon|ci\w+|nameserver|searchdomain|sshkeys|ipconfig\d+|unused\d+"
)
# Options of an attached disk that change while it is in use.
LIVE_DISK_OPTIONS = re.compile(r"(m?bps|iops)\w*|backup|replicate|size")
# Options of a card that are settings of the host's side: no class is needed for them.
LIVE_CARD_OPTIONS = {"bridge", "tag", "trunks", "firewall", "rate", "link_down"}
CLASSES = {"1": "network,disk,usb", "0": ""}
# Of a stopped VM, as recorded; of a running one by the source of qemu-server, vmconfig_hotplug_pending.
IN_USE = (
    "unable to apply pending change {0} : unable to delete '{1}' - volume is still in use (snapshot?)\n",
    "hotplug problem - unable to delete '{1}' - volume is still in use (snapshot?)\n",
)
BUSY = "error on hot-unplugging device '{0}' - still busy in guest?"


class Refused(Exception):
    """A change that cannot be made while the VM runs; it stays pending."""


class Hotplug:
    """Mixin of LabPve."""

    def _setup_hotplug(self) -> None:
        # VMs whose guests do not let go of devices.
        self.busy: set[int] = set()

    async def _hotplug(self, vm) -> None:
        """Moves what takes effect at once from pending to current. What is refused does not keep the rest back."""
        refused = {}
        for key, value in list(vm.pending.items()):
            try:
                done = value == vm.config.get(key) or await self._takes_effect(vm, key, value)
            except Refused as problem:
                refused[key] = f"hotplug problem - {problem}\n"
                continue
            if done:
                del vm.pending[key]
                self.settle(vm, key, value)
        if refused:
            raise PveError(400, "Parameter verification failed.", refused)

    async def _takes_effect(self, vm, key: str, value) -> bool:
        if ALWAYS_LIVE.fullmatch(key):
            return True
        given = str(vm.config.get("hotplug", "1"))
        classes = set(CLASSES.get(given, given).split(","))
        old = vm.config.get(key)
        if re.fullmatch(r"(scsi|virtio|sata|ide)\d+", key):
            return await self._replug(vm, key, (old, value), "disk" in classes)
        if re.fullmatch(r"net\d+", key):
            return await self._replug_nic(vm, key, (old, value), "network" in classes)
        if key == "hotplug":
            # Whether these two are there decides how the machine is built.
            return not re.search("cpu|memory", f"{old} {value}")
        if key == "memory":
            return "memory" in classes
        if key == "vcpus":
            return "cpu" in classes
        return re.fullmatch(r"usb\d+", key) is not None and "usb" in classes

    async def _replug_nic(self, vm, key: str, change: tuple, allowed: bool) -> bool:
        """Model, address, queues and MTU make another device of a card; the rest is a setting on the host's side."""
        old, new = (str(value) if value else None for value in change)
        if new:
            self._need_bridge(vm, new, "interface {0} does not exist")
        same_device = bool(old and new) and not changed_options(old, new) - LIVE_CARD_OPTIONS
        if not same_device and not allowed:
            return False
        if old and not same_device and vm.vmid in self.busy:
            raise Refused(BUSY.format(key))
        machine = self.machines.get(vm.vmid)
        before, after = (nic_of(key, value) if value else None for value in (old, new))
        if machine is None or (before and after and (before.mac, before.bridge) == (after.mac, after.bridge)):
            return True
        if before and not await machine.unplug_nic(before.index):
            return False
        return after is None or await machine.plug_nic(after)

    async def _replug(self, vm, key: str, change: tuple, allowed: bool) -> bool:
        """Plugs a disk in or out; options of a disk that stays wait, but for its limits."""
        old, new = change
        if old and new and split_drive(old)[0] == split_drive(new)[0]:
            return not any(not LIVE_DISK_OPTIONS.fullmatch(option) for option in changed_options(old, new))
        if not allowed or re.match(r"sata|ide", key):
            return False
        if old and key in boot_disks(vm.config):
            raise Refused(f"can't unplug bootdisk '{key}'")
        if old and vm.vmid in self.busy:
            raise Refused(BUSY.format(key))
        machine = self.machines.get(vm.vmid)
        if machine is None:
            return True
        if old and not await machine.detach_disk(key):
            return False
        try:
            return not new or await machine.attach_disk(self._drive(vm.node, key, *split_drive(new)))
        except Failed as problem:
            raise Refused(str(problem)) from problem

    def _need_bridge(self, vm, card: str, text: str) -> None:
        """A bridge is looked for when a card is plugged, not when it is written."""
        bridge = dict(part.partition("=")[::2] for part in card.split(",")).get("bridge")
        if bridge and bridge not in self.bridges:
            raise Refused(text.format(bridge))

    # ------------------------------------------------------- removals

    @staticmethod
    def settle(vm, key: str, value) -> None:
        """A change that waited is in force now."""
        if value is None:
            vm.config.pop(key, None)
        else:
            vm.config[key] = value

    @staticmethod
    def boot_order_after(vm, deletes: list[str], values: dict) -> dict:
        """What becomes of `boot`: drives that go leave it, a CD that is written joins it; setting a disk again does not take it back."""
        order = str(vm.pending.get("boot") or vm.config.get("boot", ""))
        discs = [key for key, value in values.items() if DRIVE_KEY.match(key) and "media=cdrom" in str(value)]
        devices = order.removeprefix("order=").split(";") if order.startswith("order=") else boot_by_default(vm.config)
        after = [device for device in devices if device not in deletes]
        after += [disc for disc in sorted(discs) if disc not in after]
        if after == devices or (not order.startswith("order=") and not discs):
            return {}
        return {"boot": "order=" + ";".join(after) if after else " "}

    @staticmethod
    def doom(vm, keys: list[str]) -> None:
        """Removals with `force`: the volumes go when their drives do, now or at the next power cycle."""
        volumes = {str(vm.config[key]).split(",")[0] for key in keys if key in vm.config}
        vm.doomed = doomed(vm) | volumes

    @staticmethod
    def is_doomed(vm, key: str) -> bool:
        return str(vm.config.get(key, "")).split(",")[0] in doomed(vm)

    def spare(self, vm, keys) -> None:
        """A key that is set again is not removed any more."""
        vm.doomed = doomed(vm) - {str(vm.config[key]).split(",")[0] for key in keys if key in vm.config}

    @staticmethod
    def power_cycle(vm) -> None:
        apply_pending(vm)

    @staticmethod
    def held_by_snapshots(vm, keys: list[str]) -> dict[str, str]:
        return held_by_snapshots(vm, keys)


def held_by_snapshots(vm, keys) -> dict[str, str]:
    """Those of these drives whose volumes are to go and a snapshot uses, with what is said of each."""
    in_snapshots = {split_drive(value)[0] for snapshot in vm.snapshots.values() for key, value in snapshot.items() if DRIVE_KEY.match(key)}
    volumes = {key: split_drive(vm.config[key])[0] for key in keys if DRIVE_KEY.match(key) and key in vm.config}
    text = IN_USE[vm.status == "running"]
    return {key: text.format(key, volume) for key, volume in volumes.items() if volume in in_snapshots & doomed(vm)}


def apply_pending(vm) -> None:
    """What waited takes effect at a start and a stop, but for removals of volumes that snapshots use."""
    held = held_by_snapshots(vm, [key for key, value in vm.pending.items() if value is None])
    for key, value in vm.pending.items():
        if key not in held:
            Hotplug.settle(vm, key, value)
    vm.pending = dict.fromkeys(held)


fakepve.model.FakeVm.apply_pending = apply_pending


def doomed(vm) -> set[str]:
    return getattr(vm, "doomed", set())


def boot_by_default(config: dict) -> list[str]:
    """Where nothing is said: the first disk, the first CD, the first card."""
    drives = sorted(key for key in config if re.fullmatch(r"(scsi|virtio|sata|ide)\d+", key))
    discs = [key for key in drives if "media=cdrom" in str(config[key])]
    disks = [key for key in drives if key not in discs]
    return [*disks[:1], *discs[:1], *sorted(key for key in config if re.fullmatch(r"net\d+", key))[:1]]


def boot_disks(config: dict) -> list[str]:
    order = str(config.get("boot", "")).removeprefix("order=").split(";")
    return [key for key in order if re.fullmatch(r"(scsi|virtio|sata|ide)\d+", key)]


def changed_options(old: str, new: str) -> set[str]:
    """Names of the sub-keys that differ; a card has its address under the name of its model."""
    before, after = (split_drive(text) for text in (old, new))
    names = {option for option in {*before[1], *after[1]} if before[1].get(option) != after[1].get(option)}
    return names | ({"file"} if before[0] != after[0] else set())
