"""Creating, importing and destroying VMs."""

import asyncio
import unittest

from .api import ApiTest

QEMU = "/nodes/pve1/qemu"


class Create(ApiTest):
    async def test_an_imported_disk_has_the_size_of_its_image(self):
        self.assertEqual(await self.add_vm(), "OK")
        config = await self.call("GET", f"{QEMU}/120/config")
        self.assertEqual(config["scsi0"], "local-lvm:vm-120-disk-0,size=1G")
        self.assertEqual(config["boot"], "order=scsi0")

    async def test_import_needs_a_size_of_zero(self):
        image = await self.add_image()
        status, body = await self.raw("POST", QEMU, data={"vmid": "120", "scsi0": f"local-lvm:8,import-from={image}"})
        self.assertEqual(status, 400)
        self.assertIn("requires special syntax", body["errors"]["scsi0"])

    async def test_import_from_an_iso_is_refused(self):
        data = {"vmid": "120", "scsi0": "local-lvm:0,import-from=local:iso/a.iso"}
        status, body = await self.raw("POST", QEMU, data=data)
        self.assertEqual(status, 400)
        self.assertIn("has wrong type 'iso'", body["errors"]["scsi0"])

    async def test_an_absolute_path_is_for_root_only(self):
        status, body = await self.raw("POST", QEMU, data={"vmid": "120", "scsi0": "local-lvm:0,import-from=/etc/passwd"})
        self.assertEqual((status, body["message"]), (500, "Only root can pass arbitrary filesystem paths.\n"))

    async def test_a_missing_image_fails_the_task_and_leaves_nothing(self):
        data = {"scsi0": "local-lvm:0,import-from=local:import/none.qcow2"}
        end = await self.task("POST", QEMU, vmid=120, **data)
        self.assertEqual(end, "unable to create VM 120 - volume 'local:import/none.qcow2' does not exist")
        self.assertEqual(self.pve.vms, [])

    async def test_the_id_is_taken_before_the_task_ends(self):
        self.pve.faults.slow_tasks["qmcreate"] = 0.2
        upid = await self.call("POST", QEMU, vmid=120)
        status, body = await self.raw("POST", QEMU, data={"vmid": "120"})
        self.assertEqual(status, 500)
        self.assertIn("already exists on node 'pve1'", body["message"])
        self.assertEqual(await self.end_of(upid), "OK")

    async def test_a_failed_creation_cleans_up(self):
        self.pve.faults.fail_task("qmcreate", "out of luck")
        self.assertEqual(await self.add_vm(), "unable to create VM 120 - out of luck")
        self.assertEqual((self.pve.vms, self.pve.storages["local-lvm"]["volumes"]), ([], {}))
        self.assertEqual(await self.add_vm(), "OK")

    async def test_a_full_storage_fails_the_task(self):
        self.pve.storages["local-lvm"]["avail"] = 0
        self.assertIn("No space left on device", await self.add_vm())
        self.assertEqual(self.pve.vms, [])

    async def test_a_stopped_task_ends_interrupted(self):
        self.pve.faults.slow_tasks["qmstart"] = 30
        await self.add_vm()
        upid = await self.call("POST", f"{QEMU}/120/status/start")
        await asyncio.sleep(0.05)
        await self.call("DELETE", f"/nodes/pve1/tasks/{upid}")
        self.assertEqual(await self.end_of(upid), "received interrupt")

    async def test_destroying_a_running_vm_is_refused(self):
        await self.add_vm()
        await self.task("POST", f"{QEMU}/120/status/start")
        status, body = await self.raw("DELETE", f"{QEMU}/120")
        self.assertEqual((status, body["message"]), (500, "VM 120 is running - destroy failed\n"))

    async def test_destroy_frees_the_disks_and_keeps_the_iso(self):
        self.pve.store_file("local", "seed.iso", 10)
        await self.add_vm(ide2="local:iso/seed.iso,media=cdrom")
        self.assertEqual(await self.task("DELETE", f"{QEMU}/120"), "OK")
        self.assertEqual(self.pve.storages["local-lvm"]["volumes"], {})
        self.assertIn("iso/seed.iso", self.pve.storages["local"]["volumes"])

    async def test_a_full_clone_has_disks_and_an_identity_of_its_own(self):
        await self.add_vm()
        await self.task("POST", f"{QEMU}/120/template")
        self.assertEqual(await self.task("POST", f"{QEMU}/120/clone", newid=121, name="two", full=1), "OK")
        old, new = [await self.call("GET", f"{QEMU}/{vmid}/config") for vmid in (120, 121)]
        self.assertTrue(new["scsi0"].startswith("local-lvm:vm-121-disk-0"), new)
        self.assertNotEqual(old["smbios1"], new["smbios1"])
        origin = self.pve.disks.origin
        self.assertEqual(origin["local-lvm:vm-121-disk-0"], origin["local-lvm:base-120-disk-0"])


if __name__ == "__main__":
    unittest.main()
