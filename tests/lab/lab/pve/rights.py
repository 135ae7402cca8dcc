"""What privileges buy beyond fakepve's own checks: CD-ROMs, bridges, numbers of nodes, and which refusal names nothing.

Texts and paths are those of the recordings of a real host; where a call wants one of several, the lab asks for the one that
other keys of the same call need anyway.
"""

import json
import re

from aiohttp import web
from fakepve import PveError
from fakepve.qemu import DRIVE_KEY, is_cdrom, split_drive
from fakepve.server import USER

NUMBERS = ("cpu", "maxcpu", "mem", "maxmem", "disk", "maxdisk", "uptime")


class Rights:
    """Mixin of LabPve."""

    def _config_priv(self, key):
        # VM.Config.Cloudinit would do as well.
        return "VM.Config.Network" if re.fullmatch(r"ipconfig\d+", key) else super()._config_priv(key)

    def check_devices(self, vm, user, values: dict) -> None:
        """A CD-ROM of whatever bus is not a disk, and a bridge belongs to somebody."""
        for key in sorted(key for key in values if DRIVE_KEY.match(key)):
            if is_cdrom(*split_drive(str(values[key]))):
                self.require(user, f"/vms/{vm.vmid}", "VM.Config.CDROM")
        self._check_bridges(user, values)

    def _check_bridges(self, user, values: dict) -> None:
        for key in sorted(key for key in values if re.fullmatch(r"net\d+", key)):
            bridge = re.search(r"bridge=([^,]+)", str(values[key]))
            if bridge:
                self.require(user, bridge_path(bridge.group(1)), "SDN.Use")

    def may_use(self, user, bridge: str) -> bool:
        return any(self.allowed(user, bridge_path(bridge), privilege) for privilege in ("SDN.Use", "SDN.Audit"))

    async def _qm_create(self, v, user):
        self._check_bridges(user, v)
        return await super()._qm_create(v, user)

    async def _qm_clone(self, v, user):
        paths = [f"/vms/{v['newid']}", *([f"/pool/{v['pool']}"] if v.get("pool") else [])]
        if v.get("pool") in (None, *self.pools) and not any(self.allowed(user, path, "VM.Allocate") for path in paths):
            # Either path would do, and none is named.
            raise PveError(403, "Permission check failed")
        return await super()._qm_clone(v, user)

    async def _nodes(self, request):
        """Numbers are for those who may look at the node."""
        rows = json.loads((await super()._nodes(request)).text)["data"]
        for row in rows:
            if not self.allowed(request[USER], f"/nodes/{row['node']}", "Sys.Audit"):
                for number in NUMBERS:
                    row.pop(number, None)
        return web.json_response({"data": rows})


def bridge_path(bridge: str) -> str:
    return f"/sdn/zones/localnetwork/{bridge}"
