"""What a token may not do is refused in a real host's words."""

from .api import ApiTest

ALL = "VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network "
ALL += "VM.Config.Options Datastore.Allocate Datastore.AllocateSpace SDN.Use Sys.Audit"
CONFIG = "/nodes/pve1/qemu/120/config"


class Rights(ApiTest):
    def without(self, privilege: str) -> None:
        self.pve.acl = {}
        self.pve.grant("terraform@pve", "/", *[own for own in ALL.split() if own != privilege])

    async def refused(self, privilege: str, method: str, path: str, **values) -> str:
        self.without(privilege)
        options = {"params": values} if method == "DELETE" else {"data": values}
        status, body = await self.raw(method, path, **options)
        self.assertEqual(status, 403, body)
        return body["message"].strip()

    async def test_a_cd_rom_is_no_disk(self):
        await self.add_vm()
        said = await self.refused("VM.Config.CDROM", "PUT", CONFIG, scsi30="none,media=cdrom")
        self.assertEqual(said, "Permission check failed (/vms/120, VM.Config.CDROM)")
        self.without("none")
        await self.call("PUT", CONFIG, scsi30="none,media=cdrom")

    async def test_a_bridge_is_somebodys(self):
        said = "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)"
        new = {"vmid": "120", "net0": "virtio,bridge=vmbr0"}
        self.assertEqual(await self.refused("SDN.Use", "POST", "/nodes/pve1/qemu", **new), said)
        await self.add_vm()
        self.assertEqual(await self.refused("SDN.Use", "PUT", CONFIG, net0="virtio,bridge=vmbr0"), said)
        self.assertEqual(await self.call("GET", "/nodes/pve1/network", type="any_bridge"), [])
        self.without("none")
        self.assertEqual((await self.call("GET", "/nodes/pve1/network", type="any_bridge"))[0]["iface"], "vmbr0")

    async def test_where_either_path_would_do_none_is_named(self):
        await self.add_vm()
        for path, values in (("/nodes/pve1/qemu", {"vmid": "121"}), ("/nodes/pve1/qemu/120/clone", {"newid": "121"})):
            self.assertEqual(await self.refused("VM.Allocate", "POST", path, **values), "Permission check failed")

    async def test_addresses_are_of_the_network(self):
        await self.add_vm()
        said = await self.refused("VM.Config.Network", "PUT", CONFIG, ipconfig0="ip=dhcp")
        self.assertEqual(said, "Permission check failed (/vms/120, VM.Config.Network)")

    async def test_numbers_of_nodes_are_not_for_everybody(self):
        self.without("Sys.Audit")
        self.assertNotIn("maxcpu", (await self.call("GET", "/nodes"))[0])
        self.without("none")
        self.assertIn("maxcpu", (await self.call("GET", "/nodes"))[0])


class Images(ApiTest):
    async def test_of_a_packed_image_the_disk_in_it_counts(self):
        image = await self.add_image(size=3 << 30)
        info = await self.call("GET", f"/nodes/pve1/storage/local/content/{image}")
        self.assertEqual((info["size"], info["used"]), (3 << 30, 32))
