"""Trouble on request, and what is counted."""

import io
import unittest.mock

import aiohttp
from lab.control import Control, Refused
from lab.pve import traffic

from .api import ApiTest

QEMU = "/nodes/pve1/qemu"


class Faults(ApiTest):
    async def fault(self, *words: str) -> None:
        await Control(self.pve).do_fault(list(words))

    async def test_a_lost_answer_hides_that_the_work_was_done(self):
        await self.fault("lost", "POST", "/nodes/*/qemu")
        status, _ = await self.raw("POST", QEMU, data={"vmid": "120"})
        self.assertEqual(status, 596)
        self.assertIsNotNone(self.pve.vm(120))

    async def test_a_connection_is_cut_after_the_work(self):
        await self.fault("cut-after", "POST", "/nodes/*/qemu")
        with self.assertRaises(aiohttp.ClientError):
            await self.raw("POST", QEMU, data={"vmid": "120"})
        self.assertIsNotNone(self.pve.vm(120))

    async def test_a_connection_is_cut_before_the_work(self):
        await self.fault("cut-before", "POST", "/nodes/*/qemu")
        with self.assertRaises(aiohttp.ClientError):
            await self.raw("POST", QEMU, data={"vmid": "120"})
        self.assertIsNone(self.pve.vm(120))

    async def test_an_upload_is_cut_in_the_middle(self):
        form = aiohttp.FormData({"content": "iso"})
        form.add_field("filename", io.BytesIO(b"0" * (4 << 20)), filename="one.iso")
        await self.fault("cut-during", "POST", "*/upload")
        with self.assertRaises(aiohttp.ClientError):
            await self.raw("POST", "/nodes/pve1/storage/local/upload", data=form)
        self.assertEqual(list(self.pve.storages["local"].get("volumes", {})), [])

    async def test_a_node_that_is_away_is_told_by_the_reason_alone(self):
        await self.fault("offline-node", "pve2")
        with unittest.mock.patch.object(traffic, "NO_ROUTE", 0.01):
            self.assertEqual(await self.raw("GET", "/nodes/pve2/status"), (595, None))
        self.assertEqual((await self.raw("GET", "/nodes/pve1/status"))[0], 200)

    async def test_a_rule_can_wait_for_its_turn_and_ends(self):
        await self.fault("refuse", "GET", "/version", "skip=1", "status=503", "message=busy")
        statuses = [(await self.raw("GET", "/version"))[0] for _ in range(3)]
        self.assertEqual(statuses, [200, 503, 200])

    async def test_a_stopped_creation_cleans_up_after_itself(self):
        image = await self.add_image()
        await self.fault("slow-task", "qmcreate", "30")
        values = {"vmid": 120, "scsi0": f"local-lvm:0,import-from={image}"}
        upid = await self.call("POST", QEMU, **values)
        await self.call("DELETE", f"/nodes/pve1/tasks/{upid}")
        self.assertIn("received interrupt", await self.end_of(upid))
        self.assertIsNone(self.pve.vm(120))
        self.assertEqual(list(self.pve.storages["local-lvm"]["volumes"]), [])

    async def test_a_denied_privilege_hides_a_vm_from_the_token_alone(self):
        await self.add_vm()
        await self.fault("deny", "VM.Audit", "/vms/120")
        self.assertEqual(await self.call("GET", "/cluster/resources", type="vm"), [])
        self.assertEqual((await self.raw("GET", f"{QEMU}/120/config"))[0], 403)
        self.assertEqual((await self.raw("GET", "/cluster/nextid?vmid=120"))[0], 400)
        answer = await Control(self.pve).do_api("GET", f"{QEMU}/120/config")
        self.assertEqual(answer["data"]["name"], "one")

    async def test_an_administrators_call_waits_for_its_task(self):
        await self.add_vm()
        await Control(self.pve).do_api("POST", f"{QEMU}/120/migrate", {"target": "pve2"})
        self.assertEqual(self.pve.vm(120).node, "pve2")

    async def test_clear_ends_every_fault(self):
        await self.fault("full-storage", "local-lvm")
        await self.fault("missing-storage", "local")
        await self.fault("offline-node", "pve2")
        await self.fault("fail-task", "qmcreate", "no")
        await self.fault("refuse", "*", "*", "always")
        await self.fault("clear")
        self.assertEqual(await self.add_vm(), "OK")
        self.assertTrue(self.pve.nodes["pve2"]["online"])

    async def test_an_unknown_fault_lists_the_known(self):
        with self.assertRaisesRegex(Refused, "known: .*full-storage"):
            await self.fault("gremlins")

    async def test_requests_are_counted_by_template(self):
        await self.raw("GET", "/version")
        await self.raw("GET", f"{QEMU}/120/config")
        await self.raw("GET", f"{QEMU}/121/config")
        rows = (await Control(self.pve).do_requests())["requests"]
        counts = {(row["method"], row["path"]): row["count"] for row in rows}
        self.assertEqual(counts[("GET", "/nodes/{node}/qemu/{vmid}/config")], 2)

    async def test_a_wrong_token_is_refused(self):
        self.client.headers["Authorization"] = "PVEAPIToken=terraform@pve!lab=wrong"
        self.assertEqual((await self.raw("GET", "/version"))[0], 401)

    async def test_preloaded_guests_are_all_there(self):
        self.pve.preload(1000)
        guests = await self.call("GET", "/cluster/resources", type="vm")
        self.assertEqual(len(guests), 1000)
