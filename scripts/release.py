#!/usr/bin/env python3
"""What scripts/release.sh needs more than a shell for: archives of fixed bytes, mirrors, the list of parts.

Sources: Terraform's "Provider Registry Protocol", "Provider Network Mirror Protocol" and "Dependency Lock File"; `Hash1` of
golang.org/x/mod/sumdb/dirhash; CycloneDX 1.5; Apple's `mach-o/loader.h` and `kern/cs_blobs.h`.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import re
import struct
import subprocess
import sys
import zipfile

REGISTRIES = ("registry.terraform.io", "registry.opentofu.org")
AGENTS = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")
PROVIDER = "groundwork-tf/groundwork"
# In Mach-O and in its signatures.
LC_CODE_SIGNATURE, SHA256 = 0x1D, 2
# The least that a zip can say, so that it says nothing of the day of the build.
EPOCH = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    words = parser.add_subparsers(required=True)

    def word(name: str, run, *arguments: str) -> None:
        made = words.add_parser(name, help=run.__doc__)
        for argument in arguments:
            made.add_argument(argument, nargs="+" if argument in ("files", "targets") else None)
        made.set_defaults(run=run)

    word("zip", pack, "archive", "files")
    word("signed", signed, "program")
    word("mirrors", mirrors, "folder", "version", "files")
    word("sbom", sbom, "version", "path", "targets")
    word("notes", notes, "changelog", "version")
    options = vars(parser.parse_args())
    options.pop("run")(**options)


def pack(archive: str, files: list[str]) -> None:
    """`NAME=PATH...` as a zip whose bytes depend on the files alone."""
    with zipfile.ZipFile(archive, "w") as made:
        for name, path in sorted(item.split("=", 1) for item in files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, so that the mode counts
            entry.external_attr = (0o100755 if name.startswith("terraform-provider") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, pathlib.Path(path).read_bytes(), compresslevel=9)


def signed(program: str) -> None:
    """Whether the linker's own signature of a program for macOS fits all of it: a Mac with Apple's processor ends any other at once."""
    data = pathlib.Path(program).read_bytes()
    (count,) = struct.unpack_from("<I", data, 16)
    offset, places = 32, []
    for _ in range(count):
        command, size = struct.unpack_from("<2I", data, offset)
        if command == LC_CODE_SIGNATURE:
            places += struct.unpack_from("<I", data, offset + 8)
        offset += size
    if not places:
        sys.exit(f"{program} has no signature")
    # A list of blobs, of which the first is the directory of the code's pages.
    start = places[0] + struct.unpack_from(">I", data, places[0] + 16)[0]
    hashes, _, _, pages, end = struct.unpack_from(">5I", data, start + 16)
    length, kind, shift = data[start + 36], data[start + 37], data[start + 39]
    if kind != SHA256:
        sys.exit(f"{program} is signed with another sum than SHA-256")
    for page in range(pages):
        code = data[page << shift : min((page + 1) << shift, end)]
        at = start + hashes + page * length
        if hashlib.sha256(code).digest()[:length] != data[at : at + length]:
            sys.exit(f"{program} was changed after it was signed: page {page} of {pages}")


def mirrors(folder: str, version: str, files: list[str]) -> None:
    """A filesystem mirror, unpacked, and a network mirror of the archives, both for every registry."""
    here = pathlib.Path(folder)
    archives = {}
    network = here / "network-mirror"
    network.mkdir(parents=True)
    for path in map(pathlib.Path, files):
        platform = "_".join(path.stem.split("_")[-2:])
        kept = network / path.name
        kept.write_bytes(path.read_bytes())
        # Relative to the file that names it, three folders below.
        archives[platform] = {"url": f"../../../{path.name}", "hashes": hashes(path)}
        for registry in REGISTRIES:
            unpacked = here / "filesystem-mirror" / registry / PROVIDER / version / platform
            unpacked.mkdir(parents=True)
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    target = pathlib.Path(archive.extract(entry, unpacked))
                    target.chmod(entry.external_attr >> 16 & 0o777)
    for registry in REGISTRIES:
        place = network / registry / PROVIDER
        place.mkdir(parents=True)
        write(place / "index.json", {"versions": {version: {}}})
        write(place / f"{version}.json", {"archives": archives})


def hashes(path: pathlib.Path) -> list[str]:
    """Of the files in the archive, which is what a lock file keeps, and of the archive."""
    with zipfile.ZipFile(path) as archive:
        lines = [f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n" for name in sorted(archive.namelist())]
    files = base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()
    return [f"h1:{files}", f"zh:{hashlib.sha256(path.read_bytes()).hexdigest()}"]


def sbom(version: str, path: str, targets: list[str]) -> None:
    """The crates in the providers for the targets and in the agents, as cargo knows them, as CycloneDX."""
    names = ["terraform-provider-groundwork", "groundwork-agent"]
    found = {}
    for name, wanted in ((names[0], targets), (names[1], AGENTS)):
        for platform in wanted:
            found |= parts(name, platform)
    locked = pathlib.Path("Cargo.lock").read_text()
    locked = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"', locked)
    sums = {(name, number): checksum for name, number, checksum in locked}
    components = [component(package, sums) for _, package in sorted(found.items())]
    write(
        pathlib.Path(path),
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": names[0],
                    "name": names[0],
                    "version": version,
                    "licenses": [{"expression": "MPL-2.0"}],
                }
            },
            "components": components,
        },
    )


def parts(name: str, platform: str) -> dict:
    """Packages that a program is made of on a platform: what is only built or tested with is none of them."""
    said = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", platform],
        check=True,
        stdout=subprocess.PIPE,
    )
    metadata = json.loads(said.stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo = [identity for identity, package in packages.items() if package["name"] == name]
    found = {}
    while todo:
        identity = todo.pop()
        if identity in found:
            continue
        found[identity] = packages[identity]
        needs = nodes[identity]["deps"]
        todo += [need["pkg"] for need in needs if any(kind["kind"] is None for kind in need["dep_kinds"])]
    return {(package["name"], package["version"]): package for package in found.values()}


def component(package: dict, sums: dict) -> dict:
    name, version = package["name"], package["version"]
    made = {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version}
    if package["license"]:
        made["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    if package["source"]:
        made["purl"] = f"pkg:cargo/{name}@{version}"
    if (name, version) in sums:
        made["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    return made


def notes(changelog: str, version: str) -> None:
    """What the changelog says of the version."""
    text = pathlib.Path(changelog).read_text()
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        sys.exit(f"{changelog} says nothing of {version}: write a section of that name.")
    print(found[1].strip())


def write(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
