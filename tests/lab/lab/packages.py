"""The package repositories the lab serves: built by ../packages/build.py, looked up here."""

import dataclasses
import json
import pathlib
import subprocess
import sys

BUILD = pathlib.Path(__file__).resolve().parent.parent / "packages" / "build.py"
# What examples and tests install; the repository also holds newer versions, so that a pin matters.
VERSION = "1.28.4"


class CannotBuild(Exception):
    """The repositories cannot be built; the message says why."""


@dataclasses.dataclass(frozen=True)
class Repository:
    """The built repositories."""

    folder: pathlib.Path
    kubernetes_path: str
    kubernetes_key: str


def build() -> Repository:
    """Builds the repositories; a look-up when they are in the cache."""
    done = subprocess.run([sys.executable, BUILD], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CannotBuild("the package repositories cannot be built")
    folder = pathlib.Path(done.stdout.split()[-1])
    facts = json.loads((folder / "repository.json").read_text())
    kubernetes = facts["kubernetes"][VERSION.rpartition(".")[0]]
    return Repository(folder, kubernetes["path"], (folder / kubernetes["key"]).read_text())
