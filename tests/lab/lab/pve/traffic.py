"""Every request on its way in and out: counted, logged, and spoiled when a fault says so."""

import asyncio
import collections
import json
import logging
import re
import time
import urllib.parse

import aiohttp
import fakepve.server
import yarl
from aiohttp import web
from fakepve import PveError
from fakepve.server import API

log = logging.getLogger("lab.api")
ROOT_TOKEN = "root@pam!lab"
# pveproxy closes a connection after this many requests.
REQUESTS_PER_CONNECTION = 100
# Seconds after which the kernel gives up on a neighbour that does not answer.
NO_ROUTE = 3.06
CONTENT = "/nodes/{node}/storage/{storage}/content/{volume}"

_filled = fakepve.server.params


async def _params(request) -> dict:
    """All parameters of a request. fakepve drops those that are empty; to Proxmox VE `comment=` takes a comment away."""
    values = await _filled(request)
    if request.content_type == "application/x-www-form-urlencoded":
        body = (await request.read()).decode()
        pairs = urllib.parse.parse_qsl(body, keep_blank_values=True)
        values.update((key, "") for key, value in pairs if value == "" and key not in values)
    return values


fakepve.server.params = _params


class Runner(web.AppRunner):
    """Serves an application as pveproxy reads paths: slashes at the end, and several in a row, say nothing."""

    async def _make_server(self):
        server = await super()._make_server()
        make = server.request_factory
        server.request_factory = lambda message, *rest: make(plain_path(message), *rest)
        return server


def plain_path(message):
    path, mark, query = message.path.partition("?")
    plain = (re.sub("/+", "/", path).rstrip("/") or "/") + mark + query
    return message._replace(path=plain, url=yarl.URL(plain, encoded=True)) if plain != message.path else message


class Traffic:
    """Mixin of LabPve."""

    def _setup_traffic(self) -> None:
        self.counts: collections.Counter = collections.Counter()
        self._on_connection: collections.Counter = collections.Counter()
        # VMs that /cluster/resources does not show: it is a view some seconds old.
        self.hidden: set[int] = set()
        # Power states that it shows instead of those of now.
        self.seen_before: dict[int, str] = {}
        # Privilege and path that nobody but root has.
        self.denied: set[tuple[str, str]] = set()

    def allowed(self, user, path, priv):
        if (priv, path) in self.denied and user.split("!")[0] != "root@pam":
            return False
        return super().allowed(user, path, priv)

    async def _permissions(self, v, user):
        held = await super()._permissions(v, user)
        path = v.get("path")
        if path is None or user.split("!")[0] == "root@pam":
            return held
        # As Proxmox VE answers: the path itself, with what is inherited. A token has no more than was granted to it.
        granted = {privilege for privileges in held.values() for privilege in privileges}
        return {path: {privilege: 1 for privilege in sorted(granted) if self.allowed(user, path, privilege)}}

    async def answer(self, request, match, params, user, call=None):
        if match is None or request.method not in match.methods:
            path = request.path.removeprefix(API)
            raise PveError(501, f"Method '{request.method} {path}' not implemented")
        return await super().answer(request, match, params, user, call)

    def _routes_lab_access(self):
        return [("GET", "/access/users", self._users)]

    async def _users(self, values, user):
        """The users that the caller may see: itself at least."""
        token = user.split("!")[0] if "!" in user else None
        owner = token or user
        names = [name for name in ("root@pam", *self.users) if name == owner or self.allowed(user, "/access/users", "User.Modify")]
        rows = []
        for name in sorted({owner, *names}):
            row = {"userid": name, "enable": 1, "expire": 0, "realm-type": name.rsplit("@", 1)[1]}
            if values.get("full"):
                own = [key.split("!")[1] for key in self.apitokens if key.split("!")[0] == name]
                row["tokens"] = [{"tokenid": key, "expire": 0, "privsep": 0} for key in own]
            rows.append(row)
        return rows

    async def as_root(self, method: str, path: str, values: dict):
        """A call over the wire with every right; its data."""
        headers = {"Authorization": f"PVEAPIToken={ROOT_TOKEN}={self.apitokens[ROOT_TOKEN]}"}
        given = {"params": values} if method in ("GET", "DELETE") else {"data": values}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.request(method, f"{self.url}/api2/json{path}", ssl=False, **given) as answer:
                body = await answer.json()
        if answer.status != 200:
            raise PveError(answer.status, f"{method} {path} was refused ({answer.status}): {body}")
        return body["data"]

    def _build_app(self):
        app = super()._build_app()
        app.middlewares.insert(0, self._watched)
        return app

    @web.middleware
    async def _watched(self, request, handler):
        template = self._template(request)
        self.counts[(request.method, template)] += 1
        began = time.monotonic()
        rule = self.faults.hit(request.method, request.path.removeprefix(API), template)
        response = await self._spoiled(rule, request, handler)
        took = (time.monotonic() - began) * 1000
        log.info("%s %s %s %.0f ms", request.method, request.path, response.status, took)
        self._limit_connection(request, response)
        return response

    def _template(self, request) -> str:
        match = self.resolve(request, API)
        # A volume's name may hold a slash that the client did not encode.
        return match.template if match else re.sub(r".*/content/.+", CONTENT, request.path)

    async def _resources(self, request):
        rows = json.loads((await super()._resources(request)).text)["data"]
        states = {vm.vmid: vm.qmpstatus for vm in self.vms}
        for row in rows:
            if row.get("lock") == "create":
                row["name"] = f"VM {row['vmid']}"
            # Here, and here alone, the status is QEMU's own.
            if row.get("type") == "qemu" and row["status"] == "running":
                row["status"] = states.get(row["vmid"], "running")
            if row.get("type") == "qemu":
                row["status"] = self.seen_before.get(row["vmid"], row["status"])
        return web.json_response({"data": [row for row in rows if row.get("vmid") not in self.hidden]})

    async def _pending(self, request):
        """Until its disks are made, a new VM's configuration holds its lock and nothing else."""
        vm = self._vm(request, "VM.Audit")
        if vm.lock != "create":
            return await super()._pending(request)
        return web.json_response({"data": [{"key": "lock", "value": "create"}, {"key": "digest", "value": vm.digest()}]})

    async def _spoiled(self, rule, request, handler):
        kind = rule.kind if rule else ""
        if kind == "refuse":
            return problem(rule.status, rule.message)
        if kind == "cut-before":
            return cut(request)
        if kind == "cut-during":
            await request.content.read(1 << 16)
            return cut(request)
        if kind == "slow":
            await asyncio.sleep(rule.seconds)
        # A client that hangs up does not stop what it asked for.
        response = await asyncio.shield(asyncio.ensure_future(handler(request)))
        if kind == "cut-after":
            return cut(request)
        if kind == "lost":
            return unproxied(596, "Connection timed out")
        if response.status == 595:
            await asyncio.sleep(NO_ROUTE)
            return unproxied(595, "No route to host")
        return response

    def _limit_connection(self, request, response) -> None:
        """pveproxy closes after an error and after a number of requests."""
        connection = id(request.transport)
        self._on_connection[connection] += 1
        if response.status >= 400 or self._on_connection[connection] >= REQUESTS_PER_CONNECTION:
            del self._on_connection[connection]
            response.force_close()


def problem(status: int, message: str) -> web.Response:
    # A reason phrase takes no control characters (RFC 9112); the message does.
    reason = re.sub("[^ -~]", "", message)
    return web.json_response({"data": None, "message": f"{message}\n"}, status=status, reason=reason)


def unproxied(status: int, reason: str) -> web.Response:
    """What pveproxy says of a node that it does not reach, or not long enough: the reason, and no body (recordings 11b)."""
    return web.Response(status=status, reason=reason)


def cut(request) -> web.Response:
    log.info("%s %s connection cut", request.method, request.path)
    if request.transport is not None:
        request.transport.abort()
    # Nobody hears it.
    return web.Response(status=500)
