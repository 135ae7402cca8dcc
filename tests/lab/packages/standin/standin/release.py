"""Which release a program stands in for, and the notice that it does."""

import json
import platform
import sys

NOTICE = "Groundwork lab stand-in, not Kubernetes"

# Overwritten by the program's main module, which is made when its package is built.
VERSION = "v1.28.4"

# Images the lab pretends to have: those of the releases in its own repository.
RELEASES = ("v1.28.4", "v1.28.7")
ETCD_TAGS = {"v1.28.4": "3.5.9-0", "v1.28.7": "3.5.10-0"}
PAUSE_TAG = "3.9"
COREDNS_TAG = "v1.10.1"
OLDEST_CONTROL_PLANE = (1, 27, 0)


def notice() -> None:
    """Printed with every version, on stderr, so that what parses stdout sees what the real program prints."""
    print(f"({NOTICE})", file=sys.stderr)


def numbers(version: str) -> tuple[int, int, int]:
    """(1, 28, 4) of "v1.28.4"; raises ValueError for anything else."""
    major, minor, patch = version.removeprefix("v").split(".")
    return int(major), int(minor), int(patch.split("-")[0].split("+")[0])


def info(version: str | None = None) -> dict:
    """The version as the API and `version -o json` give it; the commit says what this really is."""
    version = version or VERSION
    major, minor, _ = numbers(version)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": str(major),
        "minor": str(minor),
        "gitVersion": version,
        "gitCommit": NOTICE.replace(" ", "-").replace(",", "").lower(),
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": f"linux/{machine}",
    }


def info_json(key: str = "clientVersion") -> str:
    return json.dumps({key: info()}, indent=2)
