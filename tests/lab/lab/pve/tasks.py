"""Tasks that move machines, that can be stopped, and that fail when a fault says so."""

import asyncio

from fakepve import PveError, TaskError

from ..machines import CannotStart

# Their own clean-up must run when they fail or are stopped, so failures and delays are put into their disk work.
CLEAN_UP_AFTERWARDS = ("qmcreate", "qmclone")
# What takes a VM off by the API applies what waits.
POWERED_OFF = ("qmstop", "qmshutdown", "qmreboot")


class Tasks:
    """Mixin of LabPve."""

    def _setup_tasks(self) -> None:
        self._running: dict[str, asyncio.Future] = {}

    async def task(self, node, ttype, tid, user, body, vm=None, lock=True, log=()):
        started: list[str] = []

        async def whole():
            inner = asyncio.ensure_future(self._whole(ttype, tid, body, vm))
            self._running[started[0]] = inner
            try:
                return await inner
            except asyncio.CancelledError:
                raise TaskError("received interrupt") from None
            finally:
                self._running.pop(started[0], None)

        started.append(await super().task(node, ttype, tid, user, whole, vm=vm, lock=lock, log=log))
        return started[0]

    async def _whole(self, ttype, tid, body, vm):
        """A task's work, then what follows from it for the machine."""
        target = vm or (self.vm(int(tid)) if str(tid).isdigit() else None)
        message = self.faults.task_failure(ttype)
        if message and ttype in CLEAN_UP_AFTERWARDS:
            self.failing_disks[target.vmid] = message
        elif message:
            raise TaskError(message)
        delay = self.faults.task_delay(ttype)
        if target is not None and ttype in CLEAN_UP_AFTERWARDS:
            self.slow_disks[target.vmid] = delay
        else:
            await asyncio.sleep(delay)
        before = self.disks_of(target.config) if target else {}
        note = await body()
        if ttype in POWERED_OFF and target is not None and target.status != "running":
            self.power_cycle(target)
        if ttype == "imgdel":
            self.sweep()
        if target is not None and target in self.vms:
            self.release_disks(target, before)
            try:
                await self.follow(ttype, target)
            except CannotStart as problem:
                target.status = target.qmpstatus = "stopped"
                if ttype == "qmcreate":
                    return f"WARN: {problem}"
                raise TaskError(str(problem)) from problem
        return note

    def _routes_lab_tasks(self):
        return [("DELETE", "/nodes/{node}/tasks/{upid}", self._task_stop)]

    async def _task_stop(self, values, user):
        record = self.tasks.get(values["upid"])
        if record is None:
            raise PveError(500, f"no such task '{values['upid']}'")
        if user != record["user"]:
            self.require(user, f"/nodes/{values['node']}", "Sys.Modify")
        running = self._running.get(values["upid"])
        if running is not None:
            running.cancel()
        return None
