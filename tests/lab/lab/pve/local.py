"""Node-local storages: what lies on one node's disks is not there for another.

fakepve has one list of volumes per storage. Each entry says here on which nodes it lies (`nodes`; entries without it
are on all), so that a seed uploaded to the wrong node is as missing as it would be.
"""

from fakepve import PveError
from fakepve.qemu import drives_of, split_drive, volume_ref


class Local:
    """Mixin of LabPve."""

    def place(self, volid: str, *nodes: str) -> None:
        """Says where a volume lies."""
        sid, name = volume_ref(volid)
        self.storages[sid]["volumes"][name]["nodes"] = set(nodes)

    def is_on(self, node: str, volid: str) -> bool:
        """Whether a volume can be reached from a node."""
        sid, name = volume_ref(volid)
        store = self.storages.get(sid, {})
        nodes = store.get("volumes", {}).get(name, {}).get("nodes")
        return nodes is None or bool(store.get("shared")) or node in nodes

    def need_on(self, node: str, volid: str) -> None:
        if not self.is_on(node, volid):
            raise PveError(500, f"volume '{volid}' does not exist")

    def _qm_alloc(self, sid, vmid, fmt, size, linked_from=None):
        volid, fmt = super()._qm_alloc(sid, vmid, fmt, size, linked_from)
        self.place(volid, self.vm(vmid).node)
        return volid, fmt

    def _qm_new_drive(self, vmid, key, value, default):
        volume, props = split_drive(value)
        for used in (volume, props.get("import-from", "")):
            if ":" in used:
                self.need_on(self.vm(vmid).node, used)
        return super()._qm_new_drive(vmid, key, value, default)

    def move_disks(self, vm, target: str) -> None:
        """A migration takes the disks along."""
        for _, volume, _ in drives_of(vm.config, skip_cdrom=True):
            if volume_ref(volume)[1] in self.storages.get(volume_ref(volume)[0], {}).get("volumes", {}):
                self.place(volume, target)

    async def _content_list(self, v, user):
        return [row for row in await super()._content_list(v, user) if self.is_on(v["node"], row["volid"])]

    async def _content_info(self, v, user):
        """Of a packed image, `size` is that of the disk in it, and `used` what it takes itself."""
        sid, name, volid, *_ = self._volume_target(v)
        self.need_on(v["node"], volid)
        info = await super()._content_info(v, user)
        unpacked = self.storages[sid].get("volumes", {}).get(name, {}).get("virtual-size")
        return {**info, "size": unpacked, "used": info["size"]} if unpacked else info

    async def _content_delete(self, v, user):
        """Removes one node's copy; as PVE, it is content when there is none."""
        sid, name, volid, *_ = self._volume_target(v)
        nodes = self.storages[sid].get("volumes", {}).get(name, {}).get("nodes")
        if nodes is None or nodes == {v["node"]}:
            return await super()._content_delete(v, user)
        self.require(user, f"/storage/{sid}", "Datastore.Allocate")

        async def body():
            nodes.discard(v["node"])
            return f"Removed volume '{volid}'"

        return await self.task(v["node"], "imgdel", sid, user, body, lock=False)
