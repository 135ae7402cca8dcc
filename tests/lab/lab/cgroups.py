"""A control group of one name in every hierarchy the host has, of either version."""

import os
import pathlib
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


def make(name: str) -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        # Without these a group of the first version's `cpuset` takes no process.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> None:
    """Removes the groups and those a container's systemd made inside. Nothing may run in them any more."""
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            _rmdir(folder)


def leftovers(prefix: str) -> list[str]:
    """Groups whose name is `prefix` or begins with `prefix-`."""
    return [
        str(group)
        for hierarchy in _hierarchies()
        for group in hierarchy.iterdir()
        if group.is_dir() and (group.name == prefix or group.name.startswith(f"{prefix}-"))
    ]


def are_of_the_first_version() -> bool:
    """Whether the host has a hierarchy for each controller, as the kernel had them before version 2."""
    return not (ROOT / "cgroup.procs").exists()


def _hierarchies() -> list[pathlib.Path]:
    if not are_of_the_first_version():
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def _rmdir(folder: str) -> None:
    # The last process of a group is counted for a moment after it has ended.
    for _ in range(20):
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)


def processes(prefix: str) -> set[int]:
    """Every process in the groups of `leftovers`, and in those below them."""
    found: set[int] = set()
    for group in leftovers(prefix):
        for folder, _, _ in os.walk(group):
            try:
                found.update(int(line) for line in pathlib.Path(folder, "cgroup.procs").read_text().split())
            except OSError:
                continue
    return found - {0}
