"""The package repositories that a lab serves to its machines, laid out as the real ones are:

    debian/                            a Debian archive, as a mirror has it
        dists/CODENAME/InRelease       Suites: CODENAME, Components: main
        pool/*.deb                     real packages (../../packages/debian.txt and all they depend on), and containerd
        archive-key.asc                the key that signs it
    kubernetes/v1.36/deb/              a flat archive for each minor release, as pkgs.k8s.io has it
        InRelease, Packages[.gz]
        Release.key                    the key that signs it, ASCII-armoured
        ARCH/*.deb                     kubeadm, kubelet, kubectl, cri-tools, kubernetes-cni
    repository.json                    what is in it, for programs

Debian's packages come from the host's own apt configuration, the others from what ../kubernetes/ built.
The signing key is made on the spot, is good for this directory only, and never leaves the cache. The directory is
kept under a hash of everything that goes in, and building it again is a look-up.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from ..cache import forget_old
from ..kubernetes.distribution import Distribution, minor_of
from . import archive, debian, kubernetes

WANTED = pathlib.Path(__file__).resolve().parents[2] / "packages" / "debian.txt"
KEEP_RECIPES = 3


class CannotBuild(Exception):
    """The repositories cannot be built; the message says why."""


@dataclasses.dataclass(frozen=True)
class Repository:
    """The built repositories."""

    folder: pathlib.Path
    minors: dict[str, dict]

    def key(self, minor: str) -> str:
        return (self.folder / self.minors[minor]["key"]).read_text()


def build(cache: pathlib.Path, distribution: Distribution | None) -> Repository:
    """The repositories with the releases of `distribution`; a look-up when they are in the cache."""
    recipe = _recipe(distribution)
    built = cache / recipe
    cache.mkdir(parents=True, exist_ok=True)
    # One build at a time: they share the downloads, and the second finds what the first made.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built / "repository.json").exists():
            try:
                _build(cache, built, recipe, distribution)
            except (debian.Unavailable, archive.CannotSign) as problem:
                raise CannotBuild(str(problem)) from problem
            except subprocess.CalledProcessError as problem:
                words = f"{' '.join(map(str, problem.cmd))} failed ({problem.returncode}): {problem.stderr or ''}"
                raise CannotBuild(words) from problem
            _forget_old_recipes(cache, built)
        os.utime(built)
    facts = json.loads((built / "repository.json").read_text())
    return Repository(built, facts["kubernetes"])


def _recipe(distribution: Distribution | None) -> str:
    """Everything the result depends on, but for the packages the distribution has just now."""
    digest = hashlib.sha256()
    here = pathlib.Path(__file__).parent
    for path in sorted([WANTED, *here.glob("*.py"), *kubernetes.SOURCES.iterdir()]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{debian.codename()} {debian.architecture()}".encode())
    if distribution:
        digest.update(f"{distribution.versions} {sorted(path.name for path in distribution.folders.values())}".encode())
    return digest.hexdigest()[:16]


def _build(cache: pathlib.Path, target: pathlib.Path, recipe: str, distribution: Distribution | None) -> None:
    work = cache / f"{recipe}.new-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        key = archive.Key()
        codename, architecture = debian.codename(), debian.architecture()
        _say(f"packages: fetching {len(debian.wanted(WANTED))} Debian packages and what they need")
        debian.fetch(WANTED, cache / "debs", work / "debian" / "pool")
        minors: dict[str, dict] = {}
        if distribution:
            _say(f"packages: packing containerd{''.join(f', Kubernetes {version}' for version in distribution.versions)}")
            version, programs = distribution.common("containerd")
            kubernetes.build_containerd(version, programs, architecture, work / "debian" / "pool")
            minors = _build_minors(work, distribution, architecture, key)
        archive.write_suite(work / "debian", codename, architecture, key)
        (work / "debian" / "archive-key.asc").write_text(key.public())
        key.forget()
        facts = {"codename": codename, "architecture": architecture, "kubernetes": minors}
        (work / "repository.json").write_text(json.dumps(facts, indent=2) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build_minors(work: pathlib.Path, distribution: Distribution, architecture: str, key: archive.Key) -> dict[str, dict]:
    tools = {name: distribution.common(name) for name in ("crictl", "cni-plugins")}
    minors: dict[str, dict] = {}
    for minor in dict.fromkeys(minor_of(version) for version in distribution.versions):
        path = f"kubernetes/v{minor}/deb"
        versions = [version for version in distribution.versions if minor_of(version) == minor]
        pool = work / path / architecture
        packages = []
        for version in versions:
            packages += kubernetes.build_release(version, distribution.release(version), architecture, pool)
        packages += kubernetes.build_tools(tools, architecture, pool)
        archive.write_flat(work / path, architecture, key)
        (work / path / "Release.key").write_text(key.public())
        minors[minor] = {"path": path, "key": f"{path}/Release.key", "versions": versions, "packages": packages}
    return minors


def _forget_old_recipes(cache: pathlib.Path, current: pathlib.Path) -> None:
    old = [path.parent for path in cache.glob("*/repository.json") if path.parent != current]
    forget_old(old, KEEP_RECIPES - 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
