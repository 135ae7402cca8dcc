"""QEMU's guest agent, as Proxmox VE passes its commands on: `…/qemu/{vmid}/agent/…`.

The schema's limits and privileges are fakepve's; what is done is done in the machine. Shapes and errors: recordings of 9.1.8.
"""

import base64

from fakepve import PveError

from ..machines.guest import GuestError

# The server's own, of what `file-read` gives.
READ_MOST = 16 << 20


class Agent:
    """Mixin of LabPve."""

    async def _agent_call(self, match, values):
        vm = self.find(values["node"], values["vmid"])
        command = match.template.rsplit("/", 1)[1]
        if str(vm.config.get("agent", "0")).split(",")[0].split("=")[-1] != "1":
            raise PveError(500, "No QEMU guest agent configured")
        machine = self.machines.get(vm.vmid)
        if machine is None:
            raise PveError(500, f"VM {vm.vmid} is not running")
        if vm.qmpstatus == "paused":
            raise PveError(500, "QEMU guest agent is not running")

        async def ask(command: str, **arguments):
            try:
                answer = await machine.agent(command, **arguments)
            except GuestError as problem:
                raise PveError(500, f"Agent error: {problem}") from problem
            if answer is None:
                raise PveError(500, "QEMU guest agent is not running")
            return answer

        handler = getattr(self, "_agent_" + command.replace("-", "_"), None)
        return await handler(ask, values) if handler else {"result": await ask(command)}

    async def _agent_exec(self, ask, values):
        path, *arguments = values["command"] if isinstance(values["command"], list) else [values["command"]]
        given = {"input-data": octets(values["input-data"])} if values.get("input-data") else {}
        try:
            return await ask("exec", path=path, arg=arguments, **{"capture-output": True}, **given)
        except PveError as problem:
            if "Failed to execute" in problem.message:
                # The daemon's child dies of it (recordings 06, 72).
                raise PveError(596, "Broken pipe") from problem
            raise

    async def _agent_exec_status(self, ask, values):
        answer = dict(await ask("exec-status", pid=int(values["pid"])))
        answer["exited"] = int(answer["exited"])
        for key in ("out-data", "err-data"):
            if key in answer:
                answer[key] = letters(answer[key])
                answer[key.replace("data", "truncated")] = int(answer.pop(key.replace("data", "truncated"), False))
        return answer

    async def _agent_file_write(self, ask, values):
        encode = str(values.get("encode", "1")) in ("1", "true", "True")
        content = octets(values["content"]) if encode else values["content"]
        handle = await ask("file-open", path=values["file"], mode="wb")
        await ask("file-write", handle=handle, **{"buf-b64": content})
        await ask("file-close", handle=handle)

    async def _agent_file_read(self, ask, values):
        handle = await ask("file-open", path=values["file"], mode="r")
        found = await ask("file-read", handle=handle, count=READ_MOST)
        await ask("file-close", handle=handle)
        return {"content": letters(found["buf-b64"]), "bytes-read": found["count"]}


def octets(text: str) -> str:
    """Base64 of text as the server's Perl has it: a letter a byte, where it fits."""
    try:
        return base64.b64encode(text.encode("latin-1")).decode()
    except UnicodeEncodeError:
        return base64.b64encode(text.encode()).decode()


def letters(data: str) -> str:
    """The way back: a byte a letter."""
    return base64.b64decode(data).decode("latin-1")
