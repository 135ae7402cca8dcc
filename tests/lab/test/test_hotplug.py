"""What a running VM takes at once, what waits, and what a reboot and a start do; as recorded on Proxmox VE 9.1.8."""

from .api import ApiTest

VM = "/nodes/pve1/qemu/120"


class Hotplug(ApiTest):
    async def running(self, **values):
        await self.add_vm(cores=1, net0="virtio=BC:24:11:00:00:01,bridge=vmbr0", **values)
        self.assertEqual(await self.task("POST", f"{VM}/status/start"), "OK")

    async def row(self, key: str) -> dict:
        rows = await self.call("GET", f"{VM}/pending")
        return next((row for row in rows if row["key"] == key), {})

    async def refused(self, **values) -> dict:
        status, body = await self.raw("PUT", f"{VM}/config", data=values)
        self.assertEqual((status, body["message"]), (400, "Parameter verification failed.\n"))
        return body["errors"]

    async def status(self) -> str:
        return (await self.call("GET", f"{VM}/status/current"))["status"]

    async def test_the_host_starts_a_vm_that_was_rebooted_by_a_task_of_its_own(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", cores=64)
        self.assertEqual(await self.task("POST", f"{VM}/status/reboot"), "OK")
        self.assertEqual((await self.row("cores"))["value"], 64)
        await self.pve.restarted()
        last = max(self.pve.tasklog, key=lambda task: task["pid"])
        self.assertEqual((last["type"], last["user"]), ("qmstart", "root@pam"))
        self.assertEqual(await self.end_of(last["upid"]), "MAX 4 vcpus allowed per VM on this node")
        self.assertEqual(await self.status(), "stopped")

    async def test_a_missing_bridge_is_found_when_the_card_is_plugged(self):
        await self.running()
        self.assertEqual(
            await self.refused(net1="virtio,bridge=vmbr99"),
            {"net1": "hotplug problem - interface vmbr99 does not exist\n"},
        )
        self.assertIn("bridge=vmbr99", (await self.row("net1"))["pending"])
        await self.task("POST", f"{VM}/status/stop")
        self.assertEqual(await self.task("POST", f"{VM}/status/start"), "bridge 'vmbr99' does not exist")

    async def test_the_classes_in_hotplug_decide(self):
        await self.running(hotplug="0", scsi1="local-lvm:1")
        await self.call("PUT", f"{VM}/config", net0="virtio=BC:24:11:00:00:01,bridge=vmbr1")
        self.assertNotIn("pending", await self.row("net0"), "the host's side needs no class")
        await self.call("PUT", f"{VM}/config", net0="virtio=BC:24:11:00:00:02,bridge=vmbr1", memory=1024, scsi2="local-lvm:1")
        for key in ("net0", "memory", "scsi2"):
            self.assertIn("pending", await self.row(key), key)
        await self.call("POST", f"{VM}/config", delete="scsi1", force=1)
        self.assertEqual((await self.row("scsi1"))["delete"], 2)
        await self.task("POST", f"{VM}/status/stop")
        self.assertEqual(await self.row("scsi1"), {})
        self.assertNotIn("vm-120-disk-1", self.pve.storages["local-lvm"]["volumes"])

    async def test_a_removal_without_force_leaves_the_volume(self):
        await self.running(hotplug="0", scsi1="local-lvm:1")
        await self.call("PUT", f"{VM}/config", delete="scsi1")
        self.assertEqual((await self.row("scsi1"))["delete"], 1)
        await self.task("POST", f"{VM}/status/stop")
        self.assertEqual((await self.row("unused0"))["value"], "local-lvm:vm-120-disk-1")

    async def test_a_new_cd_joins_the_boot_order_and_is_not_unplugged_then(self):
        await self.running()
        await self.call("PUT", f"{VM}/config", ide2="none,media=cdrom")
        self.assertEqual((await self.row("boot"))["pending"], "order=scsi0;net0;ide2")
        await self.call("PUT", f"{VM}/config", delete="ide2")
        self.assertNotIn("pending", await self.row("boot"))
        await self.task("POST", f"{VM}/status/stop")
        await self.call("PUT", f"{VM}/config", scsi5="none,media=cdrom")
        self.assertEqual((await self.row("boot"))["value"], "order=scsi0;net0;scsi5")
        await self.task("POST", f"{VM}/status/start")
        self.assertEqual(await self.refused(delete="scsi5"), {"scsi5": "hotplug problem - can't unplug bootdisk 'scsi5'\n"})

    async def test_what_a_vm_boots_from_is_not_unplugged(self):
        await self.running()
        self.assertEqual(await self.refused(delete="scsi0"), {"scsi0": "hotplug problem - can't unplug bootdisk 'scsi0'\n"})
        self.assertEqual((await self.row("boot"))["pending"], "order=net0")
        await self.call("PUT", f"{VM}/config", revert="scsi0")
        self.assertNotIn("delete", await self.row("scsi0"))
        self.assertEqual((await self.row("boot"))["pending"], "order=net0", "a revert does not take it back")

    async def test_a_busy_guest_keeps_its_devices(self):
        await self.running(scsi1="local-lvm:1")
        self.pve.busy.add(120)
        end = await self.task("POST", f"{VM}/config", delete="net0,scsi1", name="other")
        text = "hotplug problem - error on hot-unplugging device '{0}' - still busy in guest?"
        told = " ".join(f"{key}: {text.format(key)}" for key in ("net0", "scsi1"))
        self.assertEqual(end, f"400 Parameter verification failed. {told} ")
        self.assertEqual((await self.row("net0"))["delete"], 1)
        self.assertEqual((await self.row("name"))["value"], "other", "the rest is done")

    async def test_a_disk_that_a_snapshot_uses_does_not_go(self):
        await self.running(scsi1="local-lvm:1")
        self.assertEqual(await self.task("POST", f"{VM}/snapshot", snapname="before"), "OK")
        volume = "local-lvm:vm-120-disk-1"
        text = f"unable to delete '{volume}' - volume is still in use (snapshot?)"
        live = f"hotplug problem - {text}"
        self.assertEqual(await self.refused(delete="scsi1", force=1), {"scsi1": live + "\n"})
        self.assertEqual(await self.task("POST", f"{VM}/config", delete="scsi1", force=1), f"400 Parameter verification failed. scsi1: {live} ")
        self.assertEqual(await self.refused(cores=2), {"scsi1": live + "\n"}, "every update tries again")
        self.assertEqual((await self.row("cores"))["pending"], 2, "the rest is done")
        self.assertEqual((await self.row("scsi1"))["delete"], 2)
        for word in ("reboot", "stop"):
            await self.task("POST", f"{VM}/status/{word}")
            await self.pve.restarted()
            self.assertEqual((await self.row("scsi1"))["delete"], 2, "a power cycle does not help")
        text = f"unable to apply pending change scsi1 : {text}"
        self.assertEqual(await self.refused(delete="scsi1", force=1), {"scsi1": text + "\n"})
        await self.task("DELETE", f"{VM}/snapshot/before")
        await self.call("PUT", f"{VM}/config", delete="scsi1", force=1)
        self.assertEqual(await self.row("scsi1"), {})

    async def test_a_line_that_waits_overwrites_a_size(self):
        await self.running()
        disk = (await self.row("scsi0"))["value"]
        await self.call("PUT", f"{VM}/config", scsi0=f"{disk},serial=x")
        await self.task("PUT", f"{VM}/resize", disk="scsi0", size="4G")
        self.assertIn("size=4G", (await self.row("scsi0"))["value"])
        await self.task("POST", f"{VM}/status/stop")
        self.assertIn("size=1G", (await self.row("scsi0"))["value"])
        self.assertEqual(await self.task("PUT", f"{VM}/resize", disk="scsi0", size="4G"), "OK")
        self.assertIn("size=1G", (await self.row("scsi0"))["value"], "it has that size, so nothing is done")
        await self.call("PUT", f"{VM}/config", scsi0=(await self.row("scsi0"))["value"])
        self.assertIn("size=4G", (await self.row("scsi0"))["value"], "whoever writes a line has its volume measured")
