"""Real Debian packages, by name, with everything they depend on.

apt is asked as if nothing were installed, so that the result suits any machine image. It uses the host's own
sources; only packages of the distribution itself count, so that a third-party source on the host (a vendor's
containerd, say) does not change what the lab serves.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

PREFERENCES = """\
Package: *
Pin: release o=Debian
Pin-Priority: 990

Package: *
Pin: release o=Ubuntu
Pin-Priority: 990
"""


class Unavailable(Exception):
    """The host cannot give the packages; the message says why."""


def codename() -> str:
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise Unavailable("/etc/os-release names no release: a Debian or Ubuntu host is needed")


def architecture() -> str:
    return _run(["dpkg", "--print-architecture"]).strip()


def wanted(names: pathlib.Path) -> list[str]:
    lines = (line.split("#", 1)[0].strip() for line in names.read_text().splitlines())
    return [line for line in lines if line]


def fetch(names: pathlib.Path, downloads: pathlib.Path, pool: pathlib.Path) -> None:
    """Puts the packages named in `names` and their dependencies into `pool`; keeps files in `downloads`."""
    (downloads / "partial").mkdir(parents=True, exist_ok=True)
    status, preferences = downloads / "status", downloads / "preferences"
    status.write_text("")
    preferences.write_text(PREFERENCES)
    options = [
        f"Dir::State::status={status}",
        f"Dir::Etc::preferences={preferences}",
        "APT::Sandbox::User=root",
        "APT::Install-Recommends=false",
        "Debug::NoLocking=true",
    ]
    command = ["apt-get", "--yes", "--quiet", *(f"--option={option}" for option in options)]
    try:
        listed = _download(command, wanted(names), downloads)
    except subprocess.CalledProcessError:
        listed = _download_after_update(command, wanted(names), downloads)
    pool.mkdir(parents=True)
    for name in (line.split()[1] for line in listed.splitlines() if line.startswith("'")):
        # As in every archive, the file name goes without the version's epoch.
        _place(downloads / name, pool / re.sub(r"_\d+%3a", "_", name))


def _download(command: list[str], names: list[str], downloads: pathlib.Path) -> str:
    # Asked with an empty cache, apt names the whole closure and not only what is still to fetch.
    with tempfile.TemporaryDirectory() as empty:
        listed = _run([*command, f"--option=Dir::Cache::archives={empty}", "--print-uris", "install", *names])
    _run([*command, f"--option=Dir::Cache::archives={downloads}", "--download-only", "install", *names])
    return listed


def _download_after_update(command: list[str], names: list[str], downloads: pathlib.Path) -> str:
    """Lists that are missing or older than the archive are the usual cause."""
    try:
        _run(["apt-get", "--quiet", "update"])
        return _download(command, names, downloads)
    except subprocess.CalledProcessError as problem:
        raise Unavailable(f"apt cannot fetch the Debian packages:\n{problem.stderr}") from problem


def _place(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _run(command: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, check=True, text=True, capture_output=True, env=environment).stdout
