"""The quickest real machine: a container with a seed, from upload to nothing left. Needs root."""

import asyncio
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import warnings

import aiohttp
from lab import cgroups, image, iso, launch, settings
from lab.machines import Drive, qemu

SEED = {
    "meta-data": "instance-id: one\n",
    "user-data": "#cloud-config\nhostname: one\nruncmd:\n- [touch, /root/ran]\n",
    "network-config": """version: 2
ethernets:
  net0:
    match: { macaddress: "bc:24:11:00:00:01" }
    addresses: [SUBNET.11/24]
    routes: [{ to: 0.0.0.0/0, via: SUBNET.1 }]
""",
}


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("systemd-nspawn"), "needs root and systemd-nspawn")
class Container(unittest.TestCase):
    def setUp(self):
        # The lab outlives the call that started it.
        warnings.simplefilter("ignore", ResourceWarning)
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name, "lab")
        options = {"backend": "nspawn", "name": "selftest", "keep_uploads": False, "guests": 0, "latency": 0.0, "kubernetes": "none"}
        self.facts = launch.start(self.folder, options)
        self.subnet = self.facts["env"]["LAB_SUBNET"].removesuffix(".0/24")

    def tearDown(self):
        number = self.facts["number"]
        left = launch.stop(self.folder)
        self.scratch.cleanup()
        self.assertEqual(left, [])
        tag = settings.Settings(self.folder, "", "nspawn", number).tag
        self.assertEqual(cgroups.leftovers(tag), [])

    def test_a_seeded_machine_boots_answers_reboots_and_goes(self):
        asyncio.run(self.create())
        self.until(lambda: self.execute("test -e /root/ran") == 0)
        self.assertEqual(self.execute("test $(hostname) = one"), 0)
        self.assertEqual(self.execute(f"ip -br address show eth0 | grep -q {self.subnet}.11/24"), 0)
        uuid = "aaaabbbb-cccc-dddd-eeee-ffff00001111"
        self.assertEqual(self.execute(f"grep -qx {uuid} /sys/class/dmi/id/product_uuid"), 0)
        self.assertEqual(self.execute("sysctl -qw vm.overcommit_memory=1 && apt-get -qq update"), 0)
        launch.call(self.folder, "power", vm="one", state="off")
        self.assertEqual(launch.call(self.folder, "list")["machines"], [])
        launch.call(self.folder, "power", vm="one", state="on")
        self.until(lambda: self.execute(f"ip -br address show eth0 | grep -q {self.subnet}.11/24") == 0)
        self.assertEqual(self.execute("test -e /root/ran"), 0)

    def execute(self, line: str) -> int:
        return launch.call(self.folder, "exec", vm="one", argv=["/bin/sh", "-c", line])["code"]

    def until(self, happens) -> None:
        for _ in range(200):
            try:
                if happens():
                    return
            except launch.CannotLaunch:
                pass
            subprocess.run(["sleep", "0.1"], check=True)
        self.fail("it did not happen within 20 s")

    async def create(self) -> None:
        env = self.facts["env"]
        headers = {"Authorization": f"PVEAPIToken={env['GROUNDWORK_PROXMOX_API_TOKEN']}"}
        async with aiohttp.ClientSession(headers=headers) as client:

            async def call(path: str, **options) -> None:
                url = f"{env['GROUNDWORK_PROXMOX_ENDPOINTS']}/api2/json/nodes/pve1{path}"
                async with client.post(url, ssl=False, **options) as answer:
                    self.assertEqual(answer.status, 200, await answer.text())
                    await self.finished(client, url, (await answer.json())["data"])

            download = {"url": env["LAB_IMAGE_URL"], "content": "import", "filename": "a.qcow2"}
            await call("/storage/local/download-url", data=download)
            form = aiohttp.FormData()
            form.add_field("content", "iso")
            form.add_field("filename", self.seed().read_bytes(), filename="seed.iso")
            await call("/storage/local/upload", data=form)
            vm = {
                "vmid": "120",
                "name": "one",
                "scsi0": "local-lvm:0,import-from=local:import/a.qcow2",
                "ide2": "local:iso/seed.iso,media=cdrom",
                "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
                "smbios1": "uuid=aaaabbbb-cccc-dddd-eeee-ffff00001111",
            }
            await call("/qemu", data=vm)
            await call("/qemu/120/status/start")

    async def finished(self, client, url: str, upid: str) -> None:
        base = url.split("/nodes/")[0]
        while True:
            async with client.get(f"{base}/nodes/pve1/tasks/{upid}/status", ssl=False) as answer:
                status = (await answer.json())["data"]
            if status["status"] == "stopped":
                self.assertEqual(status["exitstatus"], "OK")
                return
            await asyncio.sleep(0.05)

    def seed(self) -> pathlib.Path:
        folder = pathlib.Path(self.scratch.name, "seed")
        folder.mkdir()
        for name, text in SEED.items():
            (folder / name).write_text(text.replace("SUBNET", self.subnet))
        file = folder.with_suffix(".iso")
        label = ("--format=iso9660", "--options", "volume-id=CIDATA")
        subprocess.run(["bsdtar", "-cf", file, *label, "-C", folder, *SEED], check=True)
        self.assertEqual(iso.label(file), "CIDATA")
        return file


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Serials(unittest.TestCase):
    def test_a_disk_has_its_own_serial_or_that_of_its_place(self):
        def serial(options: dict) -> str:
            drive = Drive("scsi1", pathlib.Path("/disk.qcow2"), options=options)
            return qemu.drive_arguments(drive)[-1].rpartition("serial=")[2]

        self.assertEqual(serial({}), "drive-scsi1")
        self.assertEqual(serial({"serial": "data%2D1"}), "data-1")


class Recipe(unittest.TestCase):
    def test_the_recipe_is_stable(self):
        self.assertEqual(image.recipe(), image.recipe())
