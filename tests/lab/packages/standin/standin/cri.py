"""A client of the container runtime interface: gRPC over a Unix socket, as much of it as asking needs.

Speaks just enough HTTP/2 for one call on one connection, and decodes protobuf without its schema: a message is
a dict of field number to the list of its values (numbers, or bytes for strings and messages).
"""

import socket
import struct

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACKNOWLEDGED, END_HEADERS = 0x1, 0x1, 0x4
WIDE = 1 << 24


class NotRunning(Exception):
    """No CRI runtime answers; the message is what crictl says."""


class Runtime:
    """The runtime at a socket such as unix:///run/containerd/containerd.sock."""

    def __init__(self, endpoint: str, timeout: float = 4):
        self.endpoint, self.timeout = endpoint, timeout

    def version(self) -> tuple[str, str]:
        """(name, version)."""
        answer = self._call("runtime.v1.RuntimeService/Version")
        return text(answer, 2), text(answer, 3)

    def conditions(self) -> dict[str, tuple[bool, str, str]]:
        """(true, reason, message) of RuntimeReady and NetworkReady."""
        status = message(self._call("runtime.v1.RuntimeService/Status"), 1)
        each = [decode(part) for part in status.get(1, [])]
        return {text(part, 1): (bool(part.get(2, [0])[0]), text(part, 3), text(part, 4)) for part in each}

    def sandboxes(self) -> list[dict]:
        """Pod sandboxes: id, name, namespace, ready."""
        found = []
        for part in self._call("runtime.v1.RuntimeService/ListPodSandbox").get(1, []):
            sandbox = decode(part)
            metadata = message(sandbox, 2)
            ready = sandbox.get(3, [0])[0] == 0
            found.append({"id": text(sandbox, 1), "name": text(metadata, 1), "namespace": text(metadata, 3), "ready": ready})
        return found

    def containers(self) -> list[dict]:
        found = []
        for part in self._call("runtime.v1.RuntimeService/ListContainers").get(1, []):
            container = decode(part)
            found.append({"id": text(container, 1), "name": text(message(container, 3), 1), "state": container.get(6, [0])[0]})
        return found

    def images(self) -> list[dict]:
        found = []
        for part in self._call("runtime.v1.ImageService/ListImages").get(1, []):
            image = decode(part)
            tags = [tag.decode() for tag in image.get(2, [])]
            found.append({"id": text(image, 1), "tags": tags, "size": image.get(4, [0])[0]})
        return found

    def stop(self, sandbox: str) -> None:
        self._call("runtime.v1.RuntimeService/StopPodSandbox", encode(1, sandbox))

    def remove(self, sandbox: str) -> None:
        self._call("runtime.v1.RuntimeService/RemovePodSandbox", encode(1, sandbox))

    def _call(self, method: str, request: bytes = b"") -> dict:
        path = self.endpoint.removeprefix("unix://")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout)
                connection.connect(path)
                answer = _exchange(connection, f"/{method}", request)
        except OSError as problem:
            raise NotRunning(self._unavailable(path, problem)) from problem
        if answer is None:
            raise NotRunning(self._refused("Unimplemented", f"unknown service {method.split('/')[0]}"))
        return decode(answer)

    def _unavailable(self, path: str, problem: OSError) -> str:
        if isinstance(problem, TimeoutError):
            return self._refused("DeadlineExceeded", "context deadline exceeded")
        reason = (problem.strerror or str(problem)).lower()
        return self._refused(
            "Unavailable", f'connection error: desc = "transport: Error while dialing: dial unix {path}: connect: {reason}"'
        )

    def _refused(self, code: str, reason: str) -> str:
        return f'validate service connection: validate CRI v1 runtime API for endpoint "{self.endpoint}": rpc error: code = {code} desc = {reason}'


# --- HTTP/2 -----------------------------------------------------------------------------------------------------


def _exchange(connection: socket.socket, path: str, request: bytes) -> bytes | None:
    """The answer's message; None if the server refused the call."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(SETTINGS, 0, 0, struct.pack(">HI", 4, WIDE))
        + _frame(WINDOW, 0, 0, struct.pack(">I", WIDE))
        + _frame(HEADERS, END_HEADERS, 1, b"".join(_header(name, value) for name, value in headers))
        + _frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, len(request)) + request)
    )
    body = b""
    while True:
        kind, flags, stream, payload = _read_frame(connection)
        if kind == SETTINGS and not flags & ACKNOWLEDGED:
            connection.sendall(_frame(SETTINGS, ACKNOWLEDGED, 0, b""))
        elif kind == PING and not flags & ACKNOWLEDGED:
            connection.sendall(_frame(PING, ACKNOWLEDGED, 0, payload))
        elif kind == DATA and stream == 1:
            body += payload
        elif kind in (RESET, GOAWAY):
            return None
        if kind in (DATA, HEADERS) and stream == 1 and flags & END_STREAM:
            return body[5:] if len(body) >= 5 else None


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """A literal that leaves the other side's tables alone; all lengths here are under 127."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _read_frame(connection: socket.socket) -> tuple[int, int, int, bytes]:
    head = _read(connection, 9)
    length = int.from_bytes(head[:3], "big")
    return head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, _read(connection, length)


def _read(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise ConnectionResetError(104, "connection closed by the runtime")
        content += part
    return content


# --- protobuf ---------------------------------------------------------------------------------------------------


def decode(content: bytes) -> dict[int, list]:
    found: dict[int, list] = {}
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(content, position)
        elif wire == 2:
            length, position = _varint(content, position)
            value, position = content[position : position + length], position + length
        else:
            size = 8 if wire == 1 else 4
            value, position = int.from_bytes(content[position : position + size], "little"), position + size
        found.setdefault(field, []).append(value)
    return found


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def encode(field: int, value: str) -> bytes:
    """One string field shorter than 128 bytes."""
    content = value.encode()
    return bytes([field << 3 | 2, len(content)]) + content


def text(fields: dict, number: int) -> str:
    return fields.get(number, [b""])[0].decode(errors="replace")


def message(fields: dict, number: int) -> dict:
    return decode(fields.get(number, [b""])[0])
