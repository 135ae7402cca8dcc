"""The guest agent's calls: Proxmox VE's limits, privileges and words around a guest agent that does them."""

import asyncio
import pathlib
import tempfile

from lab.machines.guest import Guest
from lab.machines.none import Nothing
from lab.run import run_any

from .api import ApiTest

AGENT = "/nodes/pve1/qemu/120/agent"


class Answering(Nothing):
    """A machine that is a folder of this computer's."""

    async def start(self) -> None:
        self.guest = Guest(tempfile.mkdtemp(), lambda argv, stdin: run_any(*argv, stdin=stdin))
        pathlib.Path(self.guest.root, "run/dbus").mkdir(parents=True)
        pathlib.Path(self.guest.root, "run/dbus/system_bus_socket").touch()
        pathlib.Path(self.guest.root, "bin").mkdir()
        pathlib.Path(self.guest.root, "bin/sh").touch()

    async def agent(self, command, **arguments):
        return await self.guest.call(command, **arguments) if self.guest.runs else None


class GuestAgent(ApiTest):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.pve.make_machine = Answering
        await self.add_vm(agent="1")

    async def start(self):
        self.assertEqual(await self.task("POST", "/nodes/pve1/qemu/120/status/start"), "OK")

    async def refused(self, method: str, command: str, **options) -> str:
        status, body = await self.raw(method, f"{AGENT}/{command}", **options)
        self.assertNotEqual(status, 200, body)
        return str(body)

    async def run_script(self, text: str) -> dict:
        started = await self.call("POST", f"{AGENT}/exec", command="/bin/sh", **{"input-data": text})
        while True:
            status = await self.call("GET", f"{AGENT}/exec-status", pid=started["pid"])
            if status["exited"]:
                return status | {"pid": started["pid"]}
            await asyncio.sleep(0.01)

    async def test_a_script_runs_and_its_end_is_told_once(self):
        self.assertIn("VM 120 is not running", await self.refused("GET", "info"))
        await self.start()
        done = await self.run_script("echo ä; echo err >&2; exit 3")
        self.assertEqual((done["exitcode"], done["err-data"]), (3, "err\n"))
        again = await self.refused("GET", "exec-status", params={"pid": str(done["pid"])})
        self.assertIn("Agent error: Invalid parameter 'pid'", again)
        missing = await self.raw("POST", f"{AGENT}/exec", data={"command": "/nosuch"})
        self.assertEqual(missing[0], 596)

    async def test_a_file_is_written_by_letters_or_by_base64(self):
        await self.start()
        path = f"{self.folder}/file"
        await self.call("POST", f"{AGENT}/file-write", file=path, content="aGVsbG8=", encode="0")
        self.assertEqual(await self.call("GET", f"{AGENT}/file-read", file=path), {"content": "hello", "bytes-read": 5})
        self.assertEqual(pathlib.Path(path).stat().st_mode & 0o777, 0o666)
        await self.call("POST", f"{AGENT}/file-write", file=path, content="hello wörld\n")
        self.assertEqual((await self.call("GET", f"{AGENT}/file-read", file=path))["bytes-read"], 12)
        long = await self.refused("POST", "file-write", data={"file": path, "content": "a" * 61441})
        self.assertIn("61440 characters", long)
        nowhere = await self.refused("POST", "file-write", data={"file": "/nosuch/x", "content": "a"})
        self.assertIn("failed to open file '/nosuch/x' (mode: 'wb'): No such file or directory", nowhere)

    async def test_what_is_blocked_is_told_and_not_done(self):
        await self.start()
        root = pathlib.Path(self.pve.machines[120].guest.root)
        (root / "etc/qemu").mkdir(parents=True)
        (root / "etc/qemu/qemu-ga.conf").write_text("[general]\nblock-rpcs=guest-exec,guest-file-open\n")
        commands = (await self.call("GET", f"{AGENT}/info"))["result"]["supported_commands"]
        enabled = {row["name"]: row["enabled"] for row in commands}
        self.assertEqual((enabled["guest-exec"], enabled["guest-exec-status"]), (False, True))
        self.assertIn("guest-exec has been disabled", await self.refused("POST", "exec", data={"command": "/bin/sh"}))

    async def test_privileges_and_the_option_are_looked_at(self):
        await self.start()
        self.pve.denied.add(("VM.GuestAgent.Unrestricted", "/vms/120"))
        self.assertIn("VM.GuestAgent.Unrestricted", await self.refused("POST", "exec", data={"command": "/bin/sh"}))
        self.pve.vm(120).config["agent"] = "0"
        self.assertIn("No QEMU guest agent configured", await self.refused("GET", "info"))
