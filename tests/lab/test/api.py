"""A LabPve without machines, on a free port, and a client that speaks to it as a provider does."""

import asyncio
import json
import pathlib
import socket
import ssl
import tempfile
import unittest

import aiohttp
from lab import certs
from lab.machines.none import Nothing
from lab.pve import LabPve
from lab.settings import Settings


class ApiTest(unittest.IsolatedAsyncioTestCase):
    """Base of the API's tests: `self.pve` and calls to it."""

    async def asyncSetUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        settings = Settings(self.folder, "test", "none", 250, keep_uploads=True)
        self.pve = LabPve(settings, self.folder, Nothing)
        self.pve.host, self.pve.port = "127.0.0.1", free_port()
        ca, certificate, key = certs.make(self.folder / "certs", "127.0.0.1")
        await self.pve.start(certificate, key)
        self.context = ssl.create_default_context(cadata=ca)
        self.client = aiohttp.ClientSession(headers={"Authorization": f"PVEAPIToken={self.pve.token}"})

    async def asyncTearDown(self):
        await self.client.close()
        await self.pve.shut_down()
        self.scratch.cleanup()

    async def raw(self, method: str, path: str, **options):
        """(status, body) of a call; None without a body."""
        url = f"{self.pve.url}/api2/json{path}"
        async with self.client.request(method, url, ssl=self.context, **options) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None

    async def call(self, method: str, path: str, **values):
        """The data of a call that must succeed."""
        values = {key.replace("__", "-"): str(value) for key, value in values.items()}
        options = {"params": values} if method in ("GET", "DELETE") else {"data": values}
        status, body = await self.raw(method, path, **options)
        self.assertEqual(status, 200, body)
        return body["data"]

    async def task(self, method: str, path: str, **values) -> str:
        """How a task ended."""
        return await self.end_of(await self.call(method, path, **values))

    async def end_of(self, upid: str) -> str:
        while self.pve.tasks[upid]["status"] != "stopped":
            await asyncio.sleep(0.01)
        return self.pve.tasks[upid]["exitstatus"]

    async def add_image(self, name: str = "debian.qcow2", size: int = 1 << 30) -> str:
        """An image as an upload leaves it; its volume id."""
        file = self.folder / "image"
        file.write_bytes(qcow2(size))
        await self.pve._keep("pve1", f"local:import/{name}", file)
        return f"local:import/{name}"

    async def add_vm(self, vmid: int = 120, **values) -> str:
        """A VM with a disk imported from an image; how its creation ended."""
        image = await self.add_image()
        values = {"name": "one", "scsi0": f"local-lvm:0,import-from={image}", **values}
        return await self.task("POST", "/nodes/pve1/qemu", vmid=vmid, **values)


def qcow2(size: int) -> bytes:
    return b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + size.to_bytes(8, "big")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
