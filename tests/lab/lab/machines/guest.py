"""QEMU's guest agent, imitated for machines that have no port to it: each command is done inside, by the machine's own programs.

Its words are those of QEMU 10's; which commands it is not allowed stands where the real one reads it, in
/etc/qemu/qemu-ga.conf (`block-rpcs`). A masked qemu-guest-agent.service is one that does not run.
"""

import asyncio
import base64
import itertools
import os
import pathlib
import re

COMMANDS = (
    "guest-ping guest-info guest-get-osinfo guest-get-host-name guest-network-get-interfaces guest-exec "
    "guest-exec-status guest-file-open guest-file-read guest-file-write guest-file-close"
).split()
# A new file is everybody's, whatever the umask (qga/commands-posix.c: DEFAULT_NEW_FILE_MODE).
OPEN = 'new=; [ -e "$1" ] || new=1; : >"$1" || exit 1; [ -z "$new" ] || chmod 0666 "$1"'


class GuestError(Exception):
    """The guest agent said no; the message is its description."""


class Guest:
    """The guest agent of one machine, from its start to its end. `root` is where its files are, `execute` runs a program inside."""

    def __init__(self, root: str, execute):
        self.root, self.execute = root, execute
        self._numbers = itertools.count(1000)
        self._running: dict[int, asyncio.Future] = {}
        self._open: dict[int, str] = {}
        self._one_call = asyncio.Lock()

    @property
    def runs(self) -> bool:
        return self.exists("/run/dbus/system_bus_socket") and not self._is_masked()

    def _is_masked(self) -> bool:
        unit = self.root + "/etc/systemd/system/qemu-guest-agent.service"
        return os.path.islink(unit) and os.readlink(unit) == "/dev/null"

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.root + path)

    def read(self, path: str) -> str:
        """The text of a file; none where there is no file."""
        try:
            return pathlib.Path(self.root + path).read_text(encoding="utf-8")
        except OSError:
            return ""

    def blocked(self) -> set[str]:
        found = re.search(r"^block-rpcs\s*=\s*(.*)$", self.read("/etc/qemu/qemu-ga.conf"), re.MULTILINE)
        return set(re.split(r"[,\s]+", found[1])) if found else set()

    async def call(self, command: str, **arguments) -> object:
        """The answer to a command; it does one after the other."""
        async with self._one_call:
            if f"guest-{command}" in self.blocked():
                raise GuestError(f"Command guest-{command} has been disabled: the command is not allowed")
            handler = getattr(self, "do_" + command.replace("-", "_"), None)
            # What nobody asks for is answered, and nothing is done.
            return await handler(**arguments) if handler else {}

    async def do_info(self) -> dict:
        blocked = self.blocked()
        known = [{"name": name, "enabled": name not in blocked, "success-response": True} for name in COMMANDS]
        return {"version": "10.0.0", "supported_commands": known}

    async def do_exec(self, path: str, arg=(), **more) -> dict:
        if "/" in path and not self.exists(path):
            raise GuestError(f"Failed to execute child process “{path}” (No such file or directory)")
        number = next(self._numbers)
        stdin = base64.b64decode(more.get("input-data", ""))
        self._running[number] = asyncio.ensure_future(self.execute([path, *arg], stdin))
        return {"pid": number}

    async def do_exec_status(self, pid: int) -> dict:
        process = self._running.get(pid)
        if process is None:
            raise GuestError("Invalid parameter 'pid'")
        if not process.done():
            return {"exited": False}
        del self._running[pid]
        code, out, err = process.result()
        answer = {"exited": True, **({"exitcode": code} if code >= 0 else {"signal": -code})}
        answer |= {key: base64.b64encode(text).decode() for key, text in (("out-data", out), ("err-data", err)) if text}
        return answer

    async def do_file_open(self, path: str, mode: str = "r") -> int:
        command = OPEN if "w" in mode else ': <"$1"'
        code, _, err = await self.execute(["/bin/sh", "-c", command, "sh", path], b"")
        if code:
            raise GuestError(f"failed to open file '{path}' (mode: '{mode}'): {reason(err)}")
        handle = next(self._numbers)
        self._open[handle] = path
        return handle

    async def do_file_write(self, handle: int, **more) -> dict:
        content = base64.b64decode(more["buf-b64"])
        code, _, err = await self.execute(["/bin/sh", "-c", 'cat >>"$1"', "sh", self._open[handle]], content)
        if code:
            raise GuestError(f"failed to write to file: {reason(err)}")
        return {"count": len(content), "eof": False}

    async def do_file_read(self, handle: int, count: int = 4096) -> dict:
        code, out, err = await self.execute(["/usr/bin/head", "-c", str(count), self._open[handle]], b"")
        if code:
            raise GuestError(f"failed to read file: {reason(err)}")
        return {"count": len(out), "buf-b64": base64.b64encode(out).decode(), "eof": len(out) < count}

    async def do_file_close(self, handle: int) -> dict:
        self._open.pop(handle, None)
        return {}


def reason(said: bytes) -> str:
    """The system's own words at the end of a program's."""
    words = said.decode(errors="replace").strip().rsplit(": ", 1)[-1]
    return "No such file or directory" if words in ("Directory nonexistent", "No such file") else words
