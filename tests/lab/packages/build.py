#!/usr/bin/env python3
"""Builds the package repositories that the lab serves to its machines.

    tests/lab/packages/build.py [--output DIR] [--print]

The result is one directory, to be served over HTTP as it is:

    debian/                            a Debian archive, as a mirror has it
        dists/CODENAME/InRelease       Suites: CODENAME, Components: main
        dists/CODENAME/Release.gpg
        dists/CODENAME/main/binary-ARCH/Packages[.gz]
        pool/*.deb                     real packages (debian.txt and all they depend on)
        archive-key.asc                the key that signs it
    kubernetes/v1.28/deb/              a flat archive, as pkgs.k8s.io has it
        InRelease, Release, Release.gpg, Packages[.gz]
        Release.key                    the key that signs it, ASCII-armoured
        ARCH/*.deb                     stand-ins for kubeadm, kubelet, kubectl, cri-tools, kubernetes-cni
    repository.json                    what is in it, for programs (see README.md)

Real packages come from the host's own apt configuration; the stand-ins are made from standin/.
Both signing keys are made on the spot, are good for this directory only, and never leave its cache.
Without --output the directory is ${GROUNDWORK_CACHE:-.cache}/packages/<hash of everything that goes in>,
and building it again is a look-up; the last line of the output is its path.
"""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from repository import archive, debian, standins  # noqa: E402

KEEP_RECIPES = 3


def main() -> int:
    options = arguments()
    cache = pathlib.Path(os.environ.get("GROUNDWORK_CACHE", HERE.parents[2] / ".cache")).resolve() / "packages"
    recipe = recipe_hash()
    built = cache / recipe
    cache.mkdir(parents=True, exist_ok=True)
    # One build at a time: they share the downloads, and the second finds what the first made.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built / "repository.json").exists():
            build(cache, built, recipe)
            forget_old_recipes(cache, built)
    os.utime(built)
    if options.output:
        shutil.copytree(built, options.output, dirs_exist_ok=True)
        built = pathlib.Path(options.output).resolve()
    print(built)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Builds the lab's package repositories.")
    parser.add_argument("--output", metavar="DIR", help="copy the result there as well")
    return parser.parse_args()


def recipe_hash() -> str:
    """Everything the result depends on, but for the packages the distribution has just now."""
    digest = hashlib.sha256()
    sources = [HERE / "build.py", HERE / "debian.txt", *HERE.glob("repository/*.py"), *HERE.glob("standin/**/*")]
    for path in sorted(path for path in sources if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{debian.codename()} {debian.architecture()}".encode())
    return digest.hexdigest()[:16]


def build(cache: pathlib.Path, target: pathlib.Path, recipe: str) -> None:
    work = cache / f"{recipe}.new-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        key = archive.Key()
        codename, architecture = debian.codename(), debian.architecture()
        say(f"packages: fetching {len(debian.wanted(HERE / 'debian.txt'))} Debian packages and what they need")
        pool = work / "debian" / "pool"
        debian.fetch(HERE / "debian.txt", cache / "debs", pool)
        archive.write_suite(work / "debian", codename, architecture, key)
        (work / "debian" / "archive-key.asc").write_text(key.public())
        say("packages: building the Kubernetes stand-ins")
        minors = {}
        for minor in standins.MINORS:
            flat = work / "kubernetes" / f"v{minor}" / "deb"
            minors[minor] = standins.build(HERE / "standin", minor, architecture, flat / architecture)
            archive.write_flat(flat, architecture, key)
            (flat / "Release.key").write_text(key.public())
        key.forget()
        describe(work, codename, architecture, minors)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def describe(work: pathlib.Path, codename: str, architecture: str, minors: dict[str, list[str]]) -> None:
    facts = {
        "codename": codename,
        "architecture": architecture,
        "debian": {"path": "debian", "suite": codename, "component": "main", "key": "debian/archive-key.asc"},
        "kubernetes": {
            minor: {
                "path": f"kubernetes/v{minor}/deb",
                "suite": "/",
                "key": f"kubernetes/v{minor}/deb/Release.key",
                "packages": packages,
            }
            for minor, packages in minors.items()
        },
    }
    (work / "repository.json").write_text(json.dumps(facts, indent=2) + "\n")


def forget_old_recipes(cache: pathlib.Path, current: pathlib.Path) -> None:
    old = [path for path in cache.glob("*/repository.json") if path.parent != current]
    for path in sorted(old, key=lambda path: path.parent.stat().st_mtime)[: -KEEP_RECIPES or None]:
        shutil.rmtree(path.parent, ignore_errors=True)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (debian.Unavailable, archive.CannotSign) as problem:
        sys.exit(f"packages: {problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(f"packages: {' '.join(map(str, problem.cmd))} failed ({problem.returncode}): {problem.stderr or ''}")
