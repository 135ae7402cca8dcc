"""The lab's control API, for tests and for `scripts/lab.sh`: JSON over HTTP on a Unix socket in the lab's folder.

Every call is a POST of a JSON object to /<verb> and answers a JSON object; an error answers 400 with `{"error": …}`.
"""

import asyncio
import base64
import contextlib
import json
import uuid

from aiohttp import web
from fakepve import PveError

from . import iso
from .faults import KINDS, Rule
from .machines import CannotStart
from .pve import LabPve
from .run import Failed
from .settings import LAST_REQUESTS


class Refused(Exception):
    """A call that cannot be done; the message is for the caller."""


class Control:
    """Answers the control socket."""

    def __init__(self, pve: LabPve):
        self.pve = pve
        self.stop_asked = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{verb}", self._call)
        self.runner = web.AppRunner(app, shutdown_timeout=LAST_REQUESTS, access_log=None)

    async def start(self) -> None:
        await self.runner.setup()
        await web.UnixSite(self.runner, str(self.pve.settings.control)).start()

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def _call(self, request):
        verb = getattr(self, "do_" + request.match_info["verb"].replace("-", "_"), None)
        try:
            if verb is None:
                raise Refused(f"unknown verb {request.match_info['verb']}")
            return web.json_response(await verb(**json.loads(await request.read() or b"{}")))
        except (Refused, Failed, CannotStart, PveError, NotImplementedError, TypeError) as problem:
            return web.json_response({"error": str(problem)}, status=400)

    # ------------------------------------------------------- looking

    async def do_status(self) -> dict:
        settings = self.pve.settings
        return {"name": settings.name, "backend": settings.backend, "machines": len(self.pve.machines)}

    async def do_list(self) -> dict:
        pve = self.pve
        vms = [{"vmid": vm.vmid, "name": vm.name, "status": vm.status, "node": vm.node} for vm in pve.vms]
        volumes = [f"{sid}:{name}" for sid, store in pve.storages.items() for name in store.get("volumes", {})]
        machines = [{"vmid": vmid, "name": machine.plan.name} for vmid, machine in pve.machines.items()]
        return {"vms": vms, "volumes": sorted(volumes), "machines": machines}

    async def do_requests(self, reset: bool = False) -> dict:
        counts = [{"method": m, "path": p, "count": n} for (m, p), n in sorted(self.pve.counts.items())]
        if reset:
            self.pve.counts.clear()
        return {"total": sum(row["count"] for row in counts), "requests": counts}

    async def do_uploads(self, file: str) -> dict:
        """The file of this name on every seed image uploaded so far."""
        found = []
        folder = self.pve.settings.folder / "uploads"
        for image in sorted(folder.iterdir()) if folder.exists() else []:
            content = await iso.read(image, file) if iso.label(image) else None
            if content is not None:
                found.append(content.decode(errors="replace"))
        return {"files": found}

    # ------------------------------------------------------- machines

    async def do_exec(self, vm: str, argv: list[str], stdin: str = "") -> dict:
        code, out, err = await self._machine(vm).execute(argv, base64.b64decode(stdin))
        return {"code": code, "out": base64.b64encode(out).decode(), "err": base64.b64encode(err).decode()}

    async def do_power(self, vm: str, state: str) -> dict:
        """Pulls or puts the plug, behind the API's back."""
        found = self._vm(vm)
        if state not in ("on", "off"):
            raise Refused("power on or off")
        if state == "off":
            await self.pve.power_loss(found)
        elif found.vmid not in self.pve.machines:
            await self.pve.power_on(found)
        return {}

    async def do_create_vm(self, vmid: int, name: str, node: str = "pve1") -> dict:
        """A VM an administrator made: nothing of it is ours."""
        config = {"cores": 1, "memory": "512", "description": "made by an administrator"}
        config["smbios1"] = f"uuid={uuid.uuid4()}"
        self.pve.add_vm(int(vmid), name, node=node, config=config)
        return {}

    async def do_api(self, method: str, path: str, values: dict | None = None) -> dict:
        """What an administrator does: a call as root, and the end of the task it began."""
        answer = await self.pve.as_root(method, path, values or {})
        if isinstance(answer, str) and answer.startswith("UPID:"):
            while self.pve.tasks[answer]["status"] != "stopped":
                await asyncio.sleep(0.02)
            if self.pve.tasks[answer]["exitstatus"] != "OK":
                raise Refused(f"{method} {path}: {self.pve.tasks[answer]['exitstatus']}")
        return {"data": answer}

    # ------------------------------------------------------- faults

    async def do_fault(self, words: list[str]) -> dict:
        fault, *rest = words or [""]
        name = "_fault_" + fault.replace("-", "_")
        if fault in KINDS:
            self._rule(fault, *rest)
        elif hasattr(self, name):
            await getattr(self, name)(*rest)
        else:
            known = [*KINDS, *(key[7:].replace("_", "-") for key in dir(self) if key.startswith("_fault_"))]
            raise Refused(f"unknown fault '{fault}'; known: {', '.join(sorted(known))}")
        return {}

    def _rule(self, kind: str, method: str, path: str, *options: str) -> None:
        """KIND METHOD PATH [times=N|always] [skip=N] [seconds=S] [status=N] [message=TEXT]"""
        given = dict(option.partition("=")[::2] for option in options)
        rule = Rule(kind, method, path)
        rule.times = None if "always" in given else int(given.get("times", 1))
        rule.skip = int(given.get("skip", 0))
        rule.seconds = float(given.get("seconds", 5))
        rule.status = int(given.get("status", rule.status))
        rule.message = given.get("message", rule.message)
        self.pve.faults.add(rule)

    async def _fault_clear(self) -> None:
        self.pve.faults.clear()

    async def _fault_fail_task(self, ttype: str, message: str, times: str = "1") -> None:
        self.pve.faults.fail_task(ttype, message, int(times))

    async def _fault_slow_task(self, ttype: str, seconds: str) -> None:
        self.pve.faults.slow_tasks[ttype] = float(seconds)

    async def _fault_full_storage(self, storage: str) -> None:
        store = self._storage(storage)
        taken = store["avail"]
        store["avail"] = 0

        def undo() -> None:
            store["avail"] += taken

        self.pve.faults.on_clear(undo)

    async def _fault_missing_storage(self, storage: str) -> None:
        store = self._storage(storage)
        del self.pve.storages[storage]
        self.pve.faults.on_clear(lambda: self.pve.storages.__setitem__(storage, store))

    async def _fault_offline_storage(self, storage: str) -> None:
        store = self._storage(storage)
        store["active"] = 0
        self.pve.faults.on_clear(lambda: store.__setitem__("active", 1))

    async def _fault_offline_node(self, node: str) -> None:
        self.pve.set_node_offline(node)
        self.pve.faults.on_clear(lambda: self.pve.set_node_offline(node, False))

    async def _fault_no_quorum(self) -> None:
        self.pve.lose_quorum()
        self.pve.faults.on_clear(self.pve.regain_quorum)

    async def _fault_latency(self, seconds: str) -> None:
        before = self.pve.network["latency"]
        self.pve.network["latency"] = float(seconds)
        self.pve.faults.on_clear(lambda: self.pve.network.__setitem__("latency", before))

    async def _fault_stale(self) -> None:
        """From now on the cluster's list shows the power states of now, as it does for some seconds."""
        self.pve.seen_before = {vm.vmid: vm.qmpstatus if vm.status == "running" else vm.status for vm in self.pve.vms}
        self.pve.faults.on_clear(self.pve.seen_before.clear)

    async def _fault_hide(self, vm: str) -> None:
        self.pve.hidden.add(self._vm(vm).vmid)
        self.pve.faults.on_clear(self.pve.hidden.clear)

    async def _fault_deny(self, privilege: str, path: str) -> None:
        self.pve.denied.add((privilege, path))
        self.pve.faults.on_clear(self.pve.denied.clear)

    async def _fault_only(self, *privileges: str) -> None:
        """The token and its owner have these, and no others that were granted before."""
        before = self.pve.acl
        self.pve.acl = {}
        self.pve.grant(self.pve.token.split("!")[0], "/", *privileges)

        def as_before() -> None:
            self.pve.acl = before

        self.pve.faults.on_clear(as_before)

    async def _fault_busy_guest(self, vm: str) -> None:
        self.pve.busy.add(self._vm(vm).vmid)
        self.pve.faults.on_clear(self.pve.busy.clear)

    async def _fault_lock(self, vm: str, lock: str = "backup") -> None:
        found = self._vm(vm)
        self.pve.snapshot_lock(found.vmid, lock)
        self.pve.faults.on_clear(lambda: self.pve.unlock(found.vmid) if self.pve.vm(found.vmid) else None)

    # ------------------------------------------------------- the end

    async def do_stop(self) -> dict:
        self.stop_asked.set()
        return {}

    # ------------------------------------------------------- lookups

    def _vm(self, name: str):
        for vm in self.pve.vms:
            if name in (vm.name, str(vm.vmid)):
                return vm
        raise Refused(f"there is no VM '{name}'")

    def _machine(self, name: str):
        vm = self._vm(name)
        with contextlib.suppress(KeyError):
            return self.pve.machines[vm.vmid]
        raise Refused(f"VM '{name}' is not running")

    def _storage(self, name: str) -> dict:
        if name not in self.pve.storages:
            raise Refused(f"there is no storage '{name}'")
        return self.pve.storages[name]
