"""Disks that exist: what fakepve allocates, copies, renames and frees happens to files as well."""

import asyncio
import re

from fakepve import PveError, TaskError
from fakepve.lxc import format_size
from fakepve.qemu import DRIVE_KEY, NEW_DISK, drives_of, join_drive, split_drive, volume_ref

from ..run import Failed
from .hotplug import doomed

FILE_CONTENT = ("iso/", "import/", "vztmpl/", "snippets/", "backup/")
IMPORT_SYNTAX = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"


class Volumes:
    """Mixin of LabPve. fakepve allocates in plain functions; the work on files waits in `_jobs` for the task's
    next await, which is `ceph_io`, the one call fakepve makes in every operation on disks."""

    def _setup_volumes(self) -> None:
        self._jobs: dict[int, list] = {}
        self._clone_sources: dict[int, dict] = {}
        # VM id to the message its next disk operation fails with (see faults.py).
        self.failing_disks: dict[int, str] = {}
        # VM id to the seconds its next disk operation takes longer.
        self.slow_disks: dict[int, float] = {}

    # ------------------------------------------------------- what waits

    async def ceph_io(self, vm, keys=None):
        await super().ceph_io(vm, keys)
        if vm.vmid in self.failing_disks:
            self._jobs.pop(vm.vmid, None)
            raise TaskError(self.failing_disks.pop(vm.vmid))
        self._plan_clone(vm)
        delay = self.slow_disks.pop(vm.vmid, 0.0)
        if delay:
            self._jobs.setdefault(vm.vmid, []).insert(0, lambda: asyncio.sleep(delay))
        await self._work(vm.vmid)

    async def _work(self, vmid: int) -> None:
        """Does what waits for a VM; a stopped task says so in PVE's words, so that its clean-up runs."""
        try:
            for job in self._jobs.pop(vmid, []):
                await job()
        except Failed as problem:
            raise TaskError(str(problem)) from problem
        except asyncio.CancelledError:
            raise TaskError("received interrupt") from None

    def _later(self, vmid: int, job) -> None:
        self._jobs.setdefault(vmid, []).append(job)

    # ------------------------------------------------------- allocate

    def _qm_alloc(self, sid, vmid, fmt, size, linked_from=None):
        volid, fmt = super()._qm_alloc(sid, vmid, fmt, size, linked_from)
        if vmid not in self._clone_sources:
            self._later(vmid, lambda: self.disks.create(volid, size))
        return volid, fmt

    def _qm_free(self, volid):
        sid, name = volume_ref(volid)
        # A destroyed VM frees what its drives name; but an ISO in one of them is not its own.
        if sid is None or name.startswith(FILE_CONTENT):
            return
        super()._qm_free(volid)
        self.disks.remove(volid)

    def _qm_rename_volume(self, volid):
        new = super()._qm_rename_volume(volid)
        if new != volid:
            self.disks.rename(volid, new)
        return new

    # ------------------------------------------------------- import

    def _qm_check_drive(self, user, vmid, pool, key, value, default):
        volume, props = split_drive(value)
        source = props.get("import-from")
        if source is None:
            return super()._qm_check_drive(user, vmid, pool, key, value, default)
        found = NEW_DISK.match(volume)
        if not found or float(found.group(2)) != 0:
            raise PveError(400, "Parameter verification failed.", {key: IMPORT_SYNTAX})
        self._qm_image_store(found.group(1) or default, user)
        if str(source).startswith("/"):
            raise PveError(500, "Only root can pass arbitrary filesystem paths.")
        sid, name = volume_ref(source)
        if sid is None:
            raise PveError(500, f"unable to parse volume ID '{source}'")
        kind, owner, _ = self._parse_volname(self._store(sid), name)
        self._check_access(user, sid, kind, owner, source)
        if kind not in ("images", "import"):
            text = f"{source} has wrong type '{kind}' - needs to be 'images' or 'import'"
            raise PveError(400, "Parameter verification failed.", {key: text})
        return None

    def _qm_new_drive(self, vmid, key, value, default):
        volume, props = split_drive(value)
        if "import-from" not in props:
            return super()._qm_new_drive(vmid, key, value, default)
        props = dict(props)
        source = props.pop("import-from")
        sid, name = volume_ref(source)
        known = self._volumes(sid).get(name)
        if known is None:
            raise PveError(500, f"volume '{source}' does not exist")
        size = int(known.get("virtual-size") or known.get("size") or 0)
        target = NEW_DISK.match(volume).group(1) or default
        volid, _ = self._qm_alloc(target, vmid, props.pop("format", None), size)
        self._jobs[vmid][-1] = lambda: self.disks.copy(source, volid)
        props["size"] = format_size(size)
        return join_drive(volid, props), [volid]

    # ------------------------------------------------------- clone

    async def _qm_clone(self, v, user):
        source = self.find(v["node"], int(v["vmid"]))
        snapshot = source.snapshots.get(v.get("snapname")) or source.config
        newid = int(v["newid"])
        self._clone_sources[newid] = dict(snapshot)
        try:
            return await super()._qm_clone(v, user)
        except PveError:
            self._clone_sources.pop(newid, None)
            raise

    def _plan_clone(self, vm) -> None:
        """Queues the copies of a clone whose volumes have just been allocated."""
        old = self._clone_sources.pop(vm.vmid, None)
        for key, volume, _ in drives_of(vm.config, skip_cdrom=True) if old else []:
            source = split_drive(old.get(key, ""))[0]
            if source and source != volume:
                self._later(vm.vmid, lambda source=source, volume=volume: self.disks.copy(source, volume))

    # ------------------------------------------------------- what is used

    @staticmethod
    def disks_of(config: dict) -> dict[str, str]:
        """Slot to volume of every disk, without CD-ROMs."""
        return {key: volume for key, volume, _ in drives_of(config, skip_cdrom=True) if ":" in volume}

    def release_disks(self, vm, before: dict[str, str]) -> None:
        """What became of disks that left their slots: kept as `unusedN`, or destroyed where that was asked for."""
        used = set(self.disks_of({**vm.config, **{k: v for k, v in vm.pending.items() if v}}).values())
        unused = {str(value).split(",")[0] for key, value in vm.config.items() if key.startswith("unused")}
        for volume in dict.fromkeys(before.values()):
            if volume in used or volume in unused:
                continue
            if volume in doomed(vm) or "cloudinit" in volume:
                self._qm_free(volume)
            else:
                free = next(n for n in range(256) if f"unused{n}" not in vm.config)
                vm.config[f"unused{free}"] = volume
        for key in [key for key in vm.config if re.fullmatch(r"unused\d+", key)]:
            if str(vm.config[key]).split(",")[0] in used:
                del vm.config[key]

    def allocate_for_update(self, vm, user: str, values: dict) -> list[str]:
        """Makes the volumes a configuration update asks for; `values` then names them. Returns what was made."""
        made: list[str] = []
        for key in sorted(key for key in values if DRIVE_KEY.match(key)):
            self._qm_check_drive(user, vm.vmid, vm.pool, key, values[key], None)
            try:
                values[key], new = self._qm_new_drive(vm.vmid, key, values[key], None)
            except PveError:
                for volid in made:
                    self._qm_free(volid)
                raise
            made.extend(new)
        return made
