"""What is live, what waits for a reboot, and what becomes of disks."""

from .api import ApiTest

VM = "/nodes/pve1/qemu/120"


class Config(ApiTest):
    async def running(self, **values):
        await self.add_vm(cores=1, **values)
        self.assertEqual(await self.task("POST", f"{VM}/status/start"), "OK")

    async def pending(self, key: str) -> dict:
        rows = await self.call("GET", f"{VM}/pending")
        return next((row for row in rows if row["key"] == key), {})

    async def test_cores_wait_for_a_reboot(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", cores=3)
        self.assertEqual(await self.pending("cores"), {"key": "cores", "value": 1, "pending": 3})
        self.assertEqual((await self.call("GET", f"{VM}/config"))["cores"], 3)
        self.assertEqual((await self.call("GET", f"{VM}/config", current=1))["cores"], 1)
        await self.task("POST", f"{VM}/status/reboot")
        self.assertEqual(await self.pending("cores"), {"key": "cores", "value": 3})

    async def test_a_reset_applies_nothing(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", cores=3)
        await self.task("POST", f"{VM}/status/reset")
        self.assertEqual((await self.pending("cores"))["value"], 1)

    async def test_name_and_description_are_live(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", name="other", description="text")
        self.assertEqual(await self.pending("name"), {"key": "name", "value": "other"})

    async def test_a_scsi_disk_comes_live_and_leaves_as_unused(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", scsi1="local-lvm:2")
        self.assertEqual((await self.pending("scsi1"))["value"], "local-lvm:vm-120-disk-1,size=2G")
        await self.call("PUT", f"{VM}/config", delete="scsi1")
        self.assertEqual((await self.pending("unused0"))["value"], "local-lvm:vm-120-disk-1")
        await self.call("PUT", f"{VM}/config", delete="unused0")
        self.assertNotIn("vm-120-disk-1", self.pve.storages["local-lvm"]["volumes"])

    async def test_a_size_sent_again_makes_a_new_disk(self):
        await self.add_vm(scsi1="local-lvm:1")
        await self.call("PUT", f"{VM}/config", scsi1="local-lvm:1")
        config = await self.call("GET", f"{VM}/config")
        self.assertEqual(config["unused0"], "local-lvm:vm-120-disk-1")
        self.assertTrue(config["scsi1"].startswith("local-lvm:vm-120-disk-2"))

    async def test_a_medium_is_ejected_live_and_its_drive_goes_with_a_reboot(self):
        self.pve.store_file("local", "seed.iso", 10)
        await self.running(ide2="local:iso/seed.iso,media=cdrom")
        await self.call("PUT", f"{VM}/config", ide2="none,media=cdrom")
        self.assertEqual(await self.pending("ide2"), {"key": "ide2", "value": "none,media=cdrom"})
        await self.call("PUT", f"{VM}/config", delete="ide2")
        self.assertEqual((await self.pending("ide2"))["delete"], 1)
        await self.task("POST", f"{VM}/status/reboot")
        self.assertEqual(await self.pending("ide2"), {})

    async def test_a_changed_configuration_refuses_the_old_digest(self):
        await self.add_vm()
        digest = (await self.call("GET", f"{VM}/config"))["digest"]
        await self.call("PUT", f"{VM}/config", description="new")
        status, body = await self.raw("PUT", f"{VM}/config", data={"cores": "2", "digest": digest})
        self.assertEqual((status, body["message"]), (500, "checksum mismatch (file change by other user?)\n"))

    async def test_disks_grow_and_never_shrink(self):
        await self.add_vm()
        self.assertEqual(await self.task("PUT", f"{VM}/resize", disk="scsi0", size="4G"), "OK")
        self.assertIn("size=4G", (await self.call("GET", f"{VM}/config"))["scsi0"])
        end = await self.task("PUT", f"{VM}/resize", disk="scsi0", size="2G")
        self.assertEqual(end, "shrinking disks is not supported")

    async def test_a_local_cdrom_blocks_a_migration(self):
        self.pve.store_file("local", "seed.iso", 10)
        await self.add_vm(ide2="local:iso/seed.iso,media=cdrom")
        self.assertIn("local cdrom image", await self.task("POST", f"{VM}/migrate", target="pve2"))
        await self.call("PUT", f"{VM}/config", delete="ide2")
        self.assertEqual(await self.task("POST", f"{VM}/migrate", target="pve2"), "OK")

    async def test_root_only_options_are_refused_to_a_token(self):
        await self.add_vm()
        status, body = await self.raw("PUT", f"{VM}/config", data={"args": "-vga none"})
        self.assertIn("only root can set 'args' config", body["message"])
        self.assertGreaterEqual(status, 400)

    async def test_an_iso_of_another_node_does_not_exist(self):
        file = self.folder / "seed"
        file.write_bytes(b"iso")
        await self.pve._keep("pve2", "local:iso/seed.iso", file)
        await self.add_vm()
        status, body = await self.raw("PUT", f"{VM}/config", data={"ide2": "local:iso/seed.iso,media=cdrom"})
        self.assertEqual((status, body["message"]), (500, "volume 'local:iso/seed.iso' does not exist\n"))
        self.assertEqual(await self.call("GET", "/nodes/pve1/storage/local/content", content="iso"), [])
        self.assertEqual(len(await self.call("GET", "/nodes/pve2/storage/local/content", content="iso")), 1)

    async def test_a_migration_takes_the_disks_along(self):
        await self.add_vm()
        self.assertEqual(await self.task("POST", f"{VM}/migrate", target="pve2"), "OK")
        self.assertEqual(await self.task("POST", "/nodes/pve2/qemu/120/status/start"), "OK")
