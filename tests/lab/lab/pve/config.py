"""Configuration: what is live and what waits for a reboot, as a real host decides it."""

import re

from fakepve import PveError, TaskError
from fakepve import schema as pve_schema
from fakepve.lxc import format_size
from fakepve.qemu import DRIVE_KEY, drives_of, join_drive, split_drive, volume_ref, with_mac
from fakepve.routing import split_list
from fakepve.server import USER, ok, params

UPDATE = "/nodes/{node}/qemu/{vmid}/config"
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
class Config:
    """Mixin of LabPve."""

    async def _config_get(self, request):
        """Pending changes are merged in unless `current=1` asks for what runs."""
        vm = self._vm(request, "VM.Audit")
        config = dict(vm.config)
        if str(request.query.get("current", "0")) not in ("1", "true"):
            config.update({key: value for key, value in vm.pending.items() if value is not None})
            config = {key: value for key, value in config.items() if vm.pending.get(key, "") is not None}
        if "memory" in config:
            config["memory"] = str(config["memory"])
        return ok({**config, "digest": vm.digest()})

    async def _pending(self, request):
        vm = self._vm(request, "VM.Audit")
        rows = []
        for key in sorted({*vm.config, *vm.pending}):
            row = {"key": key}
            if key in vm.config:
                row["value"] = vm.config[key]
            if key in vm.pending:
                gone = {"delete": 2 if self.is_doomed(vm, key) else 1}
                row |= gone if vm.pending[key] is None else {"pending": vm.pending[key]}
            rows.append(row)
        return ok([*rows, {"key": "digest", "value": vm.digest()}])

    async def _config_post(self, request):
        """The same as a task. Its end says what was refused about single options, in one line."""
        p = await params(request)
        self._verify(request, p)
        vm, user = self._vm(request), request[USER]
        self.need_quorum()

        async def body():
            try:
                await self._apply_config(vm, user, p)
            except PveError as problem:
                lines = "".join(f"{key}: {text.strip()} " for key, text in (problem.errors or {}).items())
                raise TaskError(f"{problem.status} {problem.message} {lines}" if lines else problem.message) from problem

        return ok(await self.task(vm.node, "qmconfig", vm.vmid, user, body))

    async def _apply_config(self, vm, user, p):
        values = normalised(p)
        deletes = split_list(values.get("delete"))
        self._check_update(vm, values, deletes)
        self.check_devices(vm, user, values)
        self.spare(vm, [*values, *deletes])
        if int(values.pop("force", 0)):
            self.doom(vm, deletes)
        # A removal that could not be made stays pending, and each later update tries it again, and says so.
        waits = [key for key, value in vm.pending.items() if value is None and key not in values]
        held = self.held_by_snapshots(vm, [*deletes, *waits])
        for key in {*deletes, *held}:
            vm.pending.pop(key, None)
        if deletes:
            deletes = [key for key in deletes if key not in held]
            values["delete"] = ",".join(deletes)
        if not deletes:
            values.pop("delete", None)
        reverts = split_list(values.pop("revert", ""))
        before = self.disks_of(vm.config)
        media = media_of(vm.config)
        freed = [str(vm.config[key]).split(",")[0] for key in deletes if key in vm.config and key.startswith("unused")]
        made = self.allocate_for_update(vm, user, values)
        self._measure(values)
        running = vm.status == "running"
        waits = {"agent": values.pop("agent")} if running and "agent" in values else {}
        order = {} if "boot" in values else self.boot_order_after(vm, deletes, values)
        (waits if running else values).update(order)
        for key in reverts:
            vm.pending.pop(key, None)
        try:
            await self._work(vm.vmid)
            await super()._apply_config(vm, user, values)
        except (PveError, TaskError) as problem:
            for volid in made:
                self._qm_free(volid)
            raise problem if isinstance(problem, PveError) else PveError(500, str(problem)) from problem
        vm.pending.update(waits)
        try:
            if running:
                await self._hotplug(vm)
                await self._change_media(vm, media)
        finally:
            for volume in freed:
                self._qm_free(volume)
            self.release_disks(vm, before)
        if held:
            vm.pending.update(dict.fromkeys(held))
            raise PveError(400, "Parameter verification failed.", held)

    def _measure(self, values: dict) -> None:
        """The size in a drive's line is the volume's own, whatever was sent."""
        for key in [key for key in values if DRIVE_KEY.match(key)]:
            volume, props = split_drive(values[key])
            sid, name = volume_ref(volume)
            meta = self.storages.get(sid, {}).get("volumes", {}).get(name, {})
            if props.get("media") != "cdrom" and "size" in meta:
                values[key] = join_drive(volume, {**props, "size": format_size(int(meta["size"]))})

    def _check_update(self, vm, values: dict, deletes: list[str]) -> None:
        if not set(values) - {"digest", "skiplock"}:
            raise PveError(500, "no options specified")
        digest = values.get("digest")
        if digest and digest != vm.digest():
            raise PveError(500, "checksum mismatch (file change by other user?)")
        self._check_lock(vm)
        known = update_properties()
        for key in deletes:
            if key not in known and not re.fullmatch(r"[a-z]+\d+", key):
                raise PveError(400, "Parameter verification failed.", {"delete": f"unknown option '{key}'"})

    def _config_priv(self, key):
        return "root" if key in ("args", "hugepages", "affinity", "arch", "lock") else super()._config_priv(key)

    # ------------------------------------------------------- a running VM

    async def _change_media(self, vm, before: dict[str, str]) -> None:
        machine = self.machines.get(vm.vmid)
        for key, volume in media_of(vm.config).items():
            if machine is not None and key in before and before[key] != volume:
                await machine.change_medium(key, None if ":" not in volume else self.disks.path(volume))

    # ------------------------------------------------------- resize, migrate

    def _routes_lab_config(self):
        one = "/nodes/{node}/qemu/{vmid}"
        return [("PUT", one + "/resize", self._resize), ("POST", one + "/migrate", self._migrate_call)]

    async def _resize(self, values, user):
        vm = self.find(values["node"], values["vmid"])
        key, wanted = values["disk"], str(values["size"])
        self._check_lock(vm)
        if key not in vm.config:
            raise PveError(500, f"disk '{key}' does not exist")
        volume, props = split_drive(vm.config[key])
        sid, name = volume_ref(volume)
        if props.get("media") == "cdrom":
            raise PveError(500, "you can't resize a cdrom")
        self.require(user, f"/storage/{sid}", "Datastore.AllocateSpace")
        meta = self.storages[sid]["volumes"][name]

        async def body():
            old = int(meta["size"])
            new = old + bytes_of(wanted[1:]) if wanted.startswith("+") else bytes_of(wanted)
            if new < old:
                raise TaskError("shrinking disks is not supported")
            if new == old:
                return
            store = self.storages[sid]
            if new - old > store.get("avail", new):
                raise TaskError(f"unable to write to storage '{sid}': No space left on device")
            if new > old:
                await self._grow(vm, key, volume, new)
            if "avail" in store:
                store["avail"] -= new - old
            meta["size"] = new
            vm.config[key] = join_drive(volume, {**props, "size": format_size(new)})

        return await self.task(vm.node, "resize", vm.vmid, user, body, vm=vm)

    async def _grow(self, vm, key: str, volume: str, size: int) -> None:
        machine = self.machines.get(vm.vmid)
        if machine is None or not machine.grows_disks_itself:
            self._later(vm.vmid, lambda: self.disks.grow(volume, size))
            await self._work(vm.vmid)
        if machine is not None:
            await machine.grow_disk(key, size)

    async def _migrate_call(self, values, user):
        vm = self.find(values["node"], values["vmid"])
        target = values["target"]
        if target == vm.node:
            raise PveError(400, "Parameter verification failed.", {"target": "target is local node."})
        if target not in self.nodes:
            raise PveError(500, f"no such cluster node '{target}'")
        self._check_lock(vm)
        if vm.status == "running" and not values.get("online"):
            raise PveError(500, "can't migrate running VM without --online")

        async def body():
            for _, volume, props in drives_of(vm.config):
                sid = volume_ref(volume)[0]
                if props.get("media") == "cdrom" and sid and not self.storages[sid].get("shared"):
                    raise TaskError(f"can't migrate local disk '{volume}': local cdrom image")
            self.move_disks(vm, target)
            vm.node = target

        return await self.task(vm.node, "qmigrate", vm.vmid, user, body, vm=vm)


def normalised(p: dict) -> dict:
    """Values as PVE stores them: numbers as numbers, MAC addresses filled in."""
    properties = update_properties()
    values = {}
    for key, value in p.items():
        kind = properties.get(key, {}).get("type")
        if kind in ("integer", "boolean") and re.fullmatch(r"[+-]?\d+", str(value)):
            value = int(value)
        elif kind == "boolean":
            value = int(str(value).lower() in ("true", "yes", "on"))
        elif re.fullmatch(r"net\d+", key):
            value = with_mac(value)
        elif key == "tags":
            value = ";".join(sorted({tag for tag in re.split(r"[;, ]+", str(value).lower()) if tag}))
        values[key] = value
    return values


def update_properties() -> dict:
    return (pve_schema.load().paths[UPDATE]["PUT"].get("parameters") or {}).get("properties", {})


def media_of(config: dict) -> dict[str, str]:
    """Slot to medium of every CD-ROM drive."""
    return {key: split_drive(value)[0] for key, value in config.items() if DRIVE_KEY.match(key) and "media=cdrom" in str(value)}


def bytes_of(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if found is None:
        raise PveError(400, "Parameter verification failed.", {"size": "value does not match the regex pattern"})
    return int(float(found.group(1)) * UNITS[found.group(2)])
