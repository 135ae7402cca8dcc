"""Paths, verbs and users as real clients find them."""

from .api import ApiTest


class NewVms(ApiTest):
    async def test_a_vm_that_is_being_made_shows_its_lock_and_nothing_else(self):
        self.pve.faults.slow_tasks["qmcreate"] = 0.5
        upid = await self.call("POST", "/nodes/pve1/qemu", vmid=100, name="one", description="mark", scsi0="local-lvm:1")
        listed = await self.call("GET", "/cluster/resources", type="vm")
        self.assertEqual([(row["name"], row["lock"]) for row in listed], [("VM 100", "create")])
        rows = await self.call("GET", "/nodes/pve1/qemu/100/pending")
        self.assertEqual([row["key"] for row in rows], ["lock", "digest"])
        self.assertEqual(await self.end_of(upid), "OK")
        rows = {row["key"]: row.get("value") for row in await self.call("GET", "/nodes/pve1/qemu/100/pending")}
        self.assertEqual((rows["name"], rows["description"]), ("one", "mark"))


class Paths(ApiTest):
    async def test_a_slash_at_the_end_says_nothing(self):
        for path in ("/version/", "//version", "/version//"):
            status, body = await self.raw("GET", path)
            self.assertEqual((status, body["data"]["version"][0] in "89"), (200, True), path)

    async def test_a_vm_is_deleted_through_a_path_with_a_slash(self):
        self.assertEqual(await self.task("POST", "/nodes/pve1/qemu", vmid=100, name="one"), "OK")
        upid = await self.call("DELETE", "/nodes/pve1/qemu/100/")
        self.assertIn(":qmdestroy:100:", upid)
        self.assertEqual(await self.end_of(upid), "OK")
        self.assertEqual(await self.call("GET", "/nodes/pve1/qemu/"), [])

    async def test_what_is_not_there_is_not_implemented(self):
        for method, path in (("GET", "/nosuch"), ("POST", "/version"), ("GET", "/nodes/pve1/qemu/100/status/start"), ("PUT", "/nosuch/at/all/")):
            status, body = await self.raw(method, path)
            said = f"Method '{method} {path.rstrip('/')}' not implemented"
            self.assertEqual((status, body["message"].strip()), (501, said))

    async def test_the_users_are_listed_with_the_one_whose_token_asks(self):
        users = await self.call("GET", "/access/users", full=1)
        own = next(row for row in users if row["userid"] == "terraform@pve")
        self.assertEqual((own["enable"], [token["tokenid"] for token in own["tokens"]]), (1, ["lab"]))
