"""Files that come in."""

import hashlib

import aiohttp
from lab.control import Control

from .api import ApiTest, qcow2

UPLOAD = "/nodes/pve1/storage/local/upload"
CONTENT = "/nodes/pve1/storage/local/content"


class Transfer(ApiTest):
    def form(self, parts: list[tuple], filename: str, data: bytes) -> aiohttp.FormData:
        form = aiohttp.FormData(default_to_multipart=True, quote_fields=False)
        for name, value in parts:
            form.add_field(name, value)
        form.add_field("filename", data, filename=filename)
        return form

    async def upload(self, parts: list[tuple], filename: str, data: bytes = b"data"):
        return await self.raw("POST", UPLOAD, data=self.form(parts, filename, data))

    async def test_an_upload_is_kept_under_its_cleaned_name(self):
        _, body = await self.upload([("content", "iso")], "my seed.iso")
        self.assertEqual(await self.end_of(body["data"]), "OK")
        self.assertEqual([row["volid"] for row in await self.call("GET", CONTENT)], ["local:iso/my_seed.iso"])
        self.assertEqual(self.pve.disks.path("local:iso/my_seed.iso").read_bytes(), b"data")

    async def test_an_image_can_be_uploaded_for_import(self):
        _, body = await self.upload([("content", "import")], "a.qcow2", qcow2(3 << 30))
        self.assertEqual(await self.end_of(body["data"]), "OK")
        await self.task("POST", "/nodes/pve1/qemu", vmid=120, scsi0="local-lvm:0,import-from=local:import/a.qcow2")
        self.assertIn("size=3G", (await self.call("GET", "/nodes/pve1/qemu/120/config"))["scsi0"])

    async def test_a_wrong_extension_is_named(self):
        status, body = await self.upload([("content", "iso")], "seed.txt")
        self.assertEqual((status, body["errors"]), (400, {"filename": "wrong file extension"}))

    async def test_a_wrong_checksum_fails_the_task_and_keeps_nothing(self):
        sums = [("content", "iso"), ("checksum-algorithm", "sha256"), ("checksum", "0" * 64)]
        _, body = await self.upload(sums, "seed.iso")
        self.assertIn("checksum mismatch", await self.end_of(body["data"]))
        self.assertEqual(await self.call("GET", CONTENT), [])

    async def test_deleted_content_leaves_no_file(self):
        _, body = await self.upload([("content", "iso")], "seed.iso")
        await self.end_of(body["data"])
        await self.task("DELETE", f"{CONTENT}/local:iso%2Fseed.iso")
        self.assertFalse(self.pve.disks.path("local:iso/seed.iso").exists())

    async def test_kept_uploads_can_be_read_when_the_volume_is_gone(self):
        _, body = await self.upload([("content", "iso")], "seed.iso", b"no image")
        await self.end_of(body["data"])
        await self.task("DELETE", f"{CONTENT}/local:iso%2Fseed.iso")
        self.assertEqual(await Control(self.pve).do_uploads("enrol.json"), {"files": []})
        self.assertEqual(len(list((self.folder / "uploads").iterdir())), 1)

    async def download(self, filename: str, **values) -> str:
        url = f"http://127.0.0.1:{self.port}/image"
        return await self.task(
            "POST", "/nodes/pve1/storage/local/download-url", url=url, content="import", filename=filename, **values
        )

    async def test_a_download_is_checked_and_not_repeated(self):
        await self.serve(qcow2(1 << 30))
        good = {"checksum__algorithm": "sha256", "checksum": hashlib.sha256(qcow2(1 << 30)).hexdigest()}
        bad = {**good, "checksum": "0" * 64}
        self.assertIn("checksum mismatch", await self.download("a.qcow2", **bad))
        self.assertEqual(await self.download("a.qcow2", **good), "OK")
        self.assertEqual(await self.download("a.qcow2", **good), "OK")
        self.assertEqual(self.served, 2)
        self.assertIn("refusing to override existing file", await self.download("a.qcow2"))

    async def test_a_missing_url_fails_the_task(self):
        await self.serve(None)
        self.assertIn("download failed", await self.download("a.qcow2"))

    async def serve(self, data: bytes | None) -> None:
        """A web server that gives `data`, or nothing, at every path."""
        self.served = 0

        async def answer(_request):
            self.served += 1
            return aiohttp.web.Response(body=data) if data is not None else aiohttp.web.Response(status=404)

        app = aiohttp.web.Application()
        app.router.add_get("/image", answer)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        self.addAsyncCleanup(runner.cleanup)
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
