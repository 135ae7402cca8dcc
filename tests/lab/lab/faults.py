"""Trouble on request: what a test tells the lab to do wrong, until told to stop."""

import dataclasses
import fnmatch


@dataclasses.dataclass
class Rule:
    """What happens to requests that match. `times` counts down; None means every one."""

    kind: str
    method: str
    path: str
    times: int | None = 1
    status: int = 500
    message: str = "the lab was told to refuse this"
    seconds: float = 0.0
    skip: int = 0

    def takes(self, method: str, path: str, template: str) -> bool:
        """Whether this request is hit; a hit is used up."""
        if self.method not in ("*", method) or self.times == 0:
            return False
        if not (fnmatch.fnmatch(path, self.path) or fnmatch.fnmatch(template, self.path)):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


KINDS = {
    "refuse": "answer with an error instead of doing it",
    "slow": "wait before doing it",
    "cut-before": "drop the connection instead of doing it",
    "cut-during": "take the beginning of what is sent, and drop the connection",
    "cut-after": "do it, and drop the connection instead of answering",
    "lost": "do it, and answer 596 as a node's proxy does when it waited too long",
}


class Faults:
    """The faults in force."""

    def __init__(self):
        self.rules: list[Rule] = []
        self.failing_tasks: dict[str, tuple[str, int | None]] = {}
        self.slow_tasks: dict[str, float] = {}
        self._undo: list = []

    def add(self, rule: Rule) -> None:
        self.rules.append(rule)

    def hit(self, method: str, path: str, template: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.takes(method, path, template)), None)

    def fail_task(self, ttype: str, message: str, times: int | None = 1) -> None:
        self.failing_tasks[ttype] = (message, times)

    def task_failure(self, ttype: str) -> str | None:
        """The message the next task of this type fails with."""
        message, times = self.failing_tasks.get(ttype, (None, 0))
        if message is None:
            return None
        if times is not None:
            if times <= 1:
                del self.failing_tasks[ttype]
            else:
                self.failing_tasks[ttype] = (message, times - 1)
        return message

    def task_delay(self, ttype: str) -> float:
        """How many seconds longer tasks of this type take."""
        return self.slow_tasks.get(ttype, 0.0)

    def on_clear(self, undo) -> None:
        self._undo.append(undo)

    def clear(self) -> None:
        self.rules.clear()
        self.failing_tasks.clear()
        self.slow_tasks.clear()
        while self._undo:
            self._undo.pop()()
