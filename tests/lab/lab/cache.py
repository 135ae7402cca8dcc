"""Built things that outlive a lab: the newest few are kept, and whatever a running lab uses."""

import contextlib
import fcntl
import pathlib
import shutil

LOCK = ".in-use"


def hold(folder: pathlib.Path):
    """Keeps a folder of the cache from being taken away as long as this file is open: for the life of a lab."""
    held = (folder / LOCK).open("w")
    fcntl.flock(held, fcntl.LOCK_SH)
    return held


def forget_old(folders: list[pathlib.Path], keep: int) -> None:
    """Takes away all but the `keep` folders used last, and those that somebody holds."""
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        if not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError), (folder / LOCK).open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
