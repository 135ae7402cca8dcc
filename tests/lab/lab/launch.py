"""Starting and stopping a lab from outside: numbers, the background process, and proof that nothing is left."""

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from . import cgroups
from .network import Network
from .settings import Settings

NUMBERS = range(1, 200)
# Everything is built when the process begins.
START_TIMEOUT = 120
STOP_TIMEOUT = 60
# A socket's path holds 107 bytes; the longest below the folder is machines/999999999/qmp.sock.
LONGEST_FOLDER = 78
# Everything a lab writes into its folder.
FILES = (
    *("storage", "machines", "incoming", "uploads", "files", "certs", "image"),
    *("lab.json", "lab.env", "lab.log", "quickstart.tfvars.json", "quickstart_override.tf.json", "control.sock", "number"),
)


class CannotLaunch(Exception):
    """The lab cannot be started, reached or stopped; the message says why."""


def start(folder: pathlib.Path, settings: dict) -> dict:
    """Starts a lab and waits until its API answers; its facts."""
    if settings["backend"] != "none" and os.geteuid() != 0:
        raise CannotLaunch("containers, virtual machines and their network need root; --backend none does not")
    if len(str(folder)) > LONGEST_FOLDER:
        raise CannotLaunch(f"the path of --dir is too long for the sockets below it ({LONGEST_FOLDER} characters)")
    folder.mkdir(parents=True, exist_ok=True)
    if _answers(folder):
        raise CannotLaunch(f"a lab already runs in {folder}; stop it first: scripts/lab.sh stop --dir {folder}")
    _clear_dead(folder, settings["name"])
    number, lock = _take_number(folder, settings["name"])
    with lock:
        process = _spawn(folder, settings, number, lock)
    return _wait_until_ready(folder, process)


def stop(folder: pathlib.Path) -> list[str]:
    """Stops the lab in this folder, alive or dead; what is left of it."""
    number = _number_of(folder)
    if number is None:
        raise CannotLaunch(f"there is no lab in {folder}")
    if _answers(folder):
        with contextlib.suppress(CannotLaunch):
            call(folder, "stop")
    # Held while clearing: the number must not go to a new lab before everything of the old one is gone.
    with _wait_for_lock(number, folder):
        _clear(number, folder)
        left = leftovers(number, folder)
        _registered(number).unlink(missing_ok=True)
    return left


def leftovers(number: int, folder: pathlib.Path) -> list[str]:
    """What a stopped lab left on this host."""
    left = [f"file {folder / name}" for name in FILES if (folder / name).exists()]
    left += [f"mount {line.split()[1]}" for line in _mounts() if f"{folder}/" in line]
    if os.geteuid() == 0:
        settings = Settings(folder, "", "nspawn", number)
        left += asyncio.run(Network(settings).leftovers())
        left += [f"control group {group}" for group in cgroups.leftovers(settings.tag)]
    left += [f"process {pid}" for pid in _processes_of(folder)]
    return left


def call(folder: pathlib.Path, verb: str, **values) -> dict:
    """Asks a running lab."""
    connection = _UnixConnection(folder / "control.sock")
    try:
        connection.request("POST", f"/{verb}", json.dumps(values), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException) as problem:
        raise CannotLaunch(f"no lab answers in {folder}: {problem}") from problem
    finally:
        connection.close()
    if answer.status != 200:
        raise CannotLaunch(body.get("error", f"status {answer.status}"))
    return body


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: pathlib.Path):
        super().__init__("lab")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


# ----------------------------------------------------------- numbers


def _registry() -> pathlib.Path:
    base = "/run/groundwork-lab" if os.geteuid() == 0 else f"/tmp/groundwork-lab-{os.getuid()}"
    path = pathlib.Path(base)
    path.mkdir(exist_ok=True, mode=0o700)
    return path


def _registered(number: int) -> pathlib.Path:
    return _registry() / str(number)


def _lock(number: int):
    """The lock of a number, held until closed; None while a lab has it."""
    lock = _registered(number).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock.fileno()).st_ino == _registered(number).stat().st_ino:
            return lock
    except OSError:
        pass
    # Somebody has it, or has just removed the file that we locked.
    lock.close()
    return None


def _take_number(folder: pathlib.Path, name: str):
    """The first free number and its lock, which the lab's process holds as long as it lives."""
    for number in NUMBERS:
        lock = _lock(number)
        if lock is not None:
            lock.truncate(0)
            lock.write(json.dumps({"folder": str(folder), "name": name}))
            lock.flush()
            (folder / "number").write_text(str(number))
            return number, lock
    raise CannotLaunch("too many labs run on this host")


def _clear_dead(folder: pathlib.Path, name: str) -> None:
    """Takes away what a killed lab of this name or folder left."""
    for path in _registry().iterdir():
        lock = _lock(int(path.name))
        if lock is None:
            continue
        with lock, contextlib.suppress(ValueError):
            lock.seek(0)
            facts = json.loads(lock.read() or "{}")
            if facts.get("name") == name or facts.get("folder") == str(folder):
                _clear(int(path.name), pathlib.Path(facts["folder"]))
                folder.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)


def _clear(number: int, folder: pathlib.Path) -> None:
    settings = Settings(folder, "", "nspawn", number)
    for pid in {*cgroups.processes(settings.tag), *_processes_of(folder)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if os.geteuid() == 0:
        for group in {pathlib.Path(path).name for path in cgroups.leftovers(settings.tag)}:
            cgroups.remove(group)
        asyncio.run(Network(settings).down())
    for name in FILES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _number_of(folder: pathlib.Path) -> int | None:
    path = folder / "number"
    return int(path.read_text()) if path.exists() else None


def _wait_for_lock(number: int, folder: pathlib.Path):
    """The lock of a lab's number, once its process has ended."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        lock = _lock(number)
        if lock is not None:
            return lock
        time.sleep(0.05)
    raise CannotLaunch(f"the lab does not stop; its log is {folder}/lab.log")


# ----------------------------------------------------------- the process


def _spawn(folder: pathlib.Path, settings: dict, number: int, lock) -> subprocess.Popen:
    argv = [sys.executable, "-m", "lab", "serve", "--dir", str(folder), "--number", str(number)]
    for key in ("backend", "name", "guests", "latency", "kubernetes"):
        argv += [f"--{key}", str(settings[key])]
    if settings["keep_uploads"]:
        argv.append("--keep-uploads")
    with (folder / "lab.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parent.parent)},
        )


def _wait_until_ready(folder: pathlib.Path, process: subprocess.Popen) -> dict:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if (folder / "lab.json").exists():
            return json.loads((folder / "lab.json").read_text())
        if process.poll() is not None:
            tail = "".join((folder / "lab.log").open().readlines()[-15:])
            raise CannotLaunch(f"the lab ended with code {process.returncode}:\n{tail}")
        time.sleep(0.05)
    process.terminate()
    raise CannotLaunch(f"the lab is not ready after {START_TIMEOUT} s; its log is {folder}/lab.log")


def _answers(folder: pathlib.Path) -> bool:
    try:
        call(folder, "status")
        return True
    except CannotLaunch:
        return False


def _mounts() -> list[str]:
    return pathlib.Path("/proc/self/mounts").read_text().splitlines()


def _processes_of(folder: pathlib.Path) -> list[int]:
    """Processes that name the lab's folder: its own, and machines'."""
    needles = (f"{folder}/".encode(), f"--dir\0{folder}\0".encode())
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes()
            mine = any(program in line for program in (b"systemd-nspawn", b"qemu-system", b"\0lab\0serve\0"))
            if mine and any(needle in line for needle in needles) and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found
