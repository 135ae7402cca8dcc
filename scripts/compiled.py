#!/usr/bin/env python3
"""Compiled crates of others, kept for the next empty target folder: of what a checkout builds, only its own crates are new.

    compiled.py take CACHE TARGET WORD...    puts them into an empty TARGET
    compiled.py keep CACHE TARGET WORD...    keeps those of TARGET in CACHE, and no others

They are those of one Cargo.lock, one compiler and one set of profiles; every WORD, such as another compiler's version, tells them
apart too.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

# What decides how a crate is compiled. The workspace's own crates are never kept.
FILES = ("Cargo.lock", "Cargo.toml", "rust-toolchain.toml", ".cargo/config.toml")
# In a folder of one profile: what is compiled, what build scripts made, and what cargo knows of both.
PARTS = ("deps", "build", ".fingerprint")


def main() -> int:
    verb, cache, target, *words = sys.argv[1:]
    cache, target = pathlib.Path(cache) / "compiled", pathlib.Path(target)
    kept = cache / key(words)
    if verb == "take" and kept.is_dir() and not any(profiles(target)):
        shutil.copytree(kept, target, symlinks=True, dirs_exist_ok=True)
        print(f"compiled crates of others were taken from {kept}")
    if verb == "keep" and not kept.is_dir():
        keep(target, kept)
    return 0


def key(words: list[str]) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(pathlib.Path(name).read_bytes())
    digest.update("\0".join(words).encode())
    return digest.hexdigest()[:16]


def profiles(target: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the profiles: debug, agent, TRIPLE/debug, …"""
    return [path.parent for pattern in ("*/.fingerprint", "*/*/.fingerprint") for path in target.glob(pattern)]


def keep(target: pathlib.Path, kept: pathlib.Path) -> None:
    """All at once, or not at all; and nothing of another time beside it."""
    shutil.rmtree(kept.parent, ignore_errors=True)
    new = kept.with_name(f"{kept.name}.new")
    own = own_names()

    def ours(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if pathlib.Path(folder).name in PARTS and stem(name) in own]

    for profile in profiles(target):
        for part in PARTS:
            if (profile / part).is_dir():
                shutil.copytree(profile / part, new / profile.relative_to(target) / part, symlinks=True, ignore=ours)
    new.rename(kept)


def own_names() -> set[str]:
    """Names under which the workspace's packages and their targets are found there."""
    said = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"], check=True, stdout=subprocess.PIPE)
    packages = json.loads(said.stdout)["packages"]
    names = {package["name"] for package in packages}
    names |= {target["name"] for package in packages for target in package["targets"] if "custom-build" not in target["kind"]}
    return {name.replace("-", "_") for name in names}


def stem(name: str) -> str:
    """`tf` of `libtf-0123456789abcdef.rlib`, of `tf-0123456789abcdef.d` and of cargo's folder for it."""
    return name.partition(".")[0].rpartition("-")[0].replace("-", "_").removeprefix("lib")


if __name__ == "__main__":
    sys.exit(main())
