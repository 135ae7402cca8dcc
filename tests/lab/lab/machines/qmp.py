"""Two JSON protocols over Unix sockets: QEMU's own (QMP) and the guest agent's (QGA), alike but for the greeting."""

import asyncio
import itertools
import json
import pathlib


class NoAnswer(Exception):
    """The other side is not there, does not answer in time, or answers with an error."""


class SaidNo(NoAnswer):
    """It answered with an error; the message is its description."""


class Qmp:
    """A connection to QEMU. Calls are answered in order; events are handed to `on_event`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event):
        self.reader, self.writer = reader, writer
        self.on_event = on_event
        self._answers: asyncio.Queue = asyncio.Queue()
        self._one_call = asyncio.Lock()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, path: pathlib.Path, on_event) -> "Qmp":
        reader, writer = await asyncio.open_unix_connection(str(path))
        await reader.readline()
        connection = cls(reader, writer, on_event)
        await connection.call("qmp_capabilities")
        return connection

    async def call(self, command: str, **arguments) -> object:
        async with self._one_call:
            request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
            self.writer.write(json.dumps(request).encode() + b"\n")
            answer = await asyncio.wait_for(self._answers.get(), 30)
        if answer is None:
            raise NoAnswer("QEMU has ended")
        if "error" in answer:
            raise NoAnswer(answer["error"].get("desc", str(answer["error"])))
        return answer["return"]

    async def _read(self) -> None:
        while line := await self.reader.readline():
            message = json.loads(line)
            if "event" in message:
                self.on_event(message)
            else:
                await self._answers.put(message)
        await self._answers.put(None)

    def close(self) -> None:
        self._reading.cancel()
        self.writer.close()


class GuestAgent:
    """The agent inside a VM, reached through its virtio-serial port. A fresh connection per call: the port keeps
    what was sent while nobody listened, and a synchronisation number tells old answers from ours."""

    _numbers = itertools.count(1000)

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._one_call = asyncio.Lock()

    async def call(self, command: str, timeout: float = 3, **arguments) -> object:
        async with self._one_call:
            try:
                return await asyncio.wait_for(self._call(command, arguments), timeout)
            except (asyncio.TimeoutError, OSError, ValueError) as problem:
                raise NoAnswer(f"guest agent: {command}: {problem or 'no answer'}") from problem

    async def _call(self, command: str, arguments: dict) -> object:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=1 << 26)
        try:
            await self._synchronise(reader, writer)
            answer = await self._ask(reader, writer, command, arguments)
        finally:
            writer.close()
        if "error" in answer:
            raise SaidNo(answer["error"].get("desc", str(answer["error"])))
        return answer["return"]

    async def _synchronise(self, reader, writer) -> None:
        number = next(self._numbers)
        writer.write(b"\xff" + _line("guest-sync", {"id": number}))
        while True:
            line = (await reader.readline()).lstrip(b"\xff")
            if not line:
                raise OSError("the port is closed")
            try:
                if json.loads(line).get("return") == number:
                    return
            except ValueError:
                continue

    @staticmethod
    async def _ask(reader, writer, command: str, arguments: dict) -> dict:
        writer.write(_line(command, arguments))
        line = await reader.readline()
        if not line:
            raise OSError("the port is closed")
        return json.loads(line)


def _line(command: str, arguments: dict) -> bytes:
    return json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})}).encode() + b"\n"
