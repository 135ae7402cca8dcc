"""Volumes as files: every disk is a qcow2 file of the lab's, whatever its storage claims to be."""

import asyncio
import hashlib
import pathlib
import shutil
import urllib.parse

from .run import run


class Disks:
    """The files behind the volumes. Without `real` (backend `none`) only uploaded files are kept, disks are names."""

    def __init__(self, folder: pathlib.Path, real: bool):
        self.folder = folder
        self.real = real
        # Volume id to SHA-256 of the image file it is or was imported from.
        self.origin: dict[str, str] = {}

    def path(self, volid: str) -> pathlib.Path:
        storage, _, name = volid.partition(":")
        return self.folder / storage / urllib.parse.quote(name, safe="")

    async def create(self, volid: str, size: int) -> None:
        if self.real:
            self.path(volid).parent.mkdir(parents=True, exist_ok=True)
            await run("qemu-img", "create", "-q", "-f", "qcow2", self.path(volid), size)

    async def copy(self, source: str, target: str) -> None:
        """A full copy, of the files beside the disk too (see machines/nspawn.py)."""
        if source in self.origin:
            self.origin[target] = self.origin[source]
        if not self.real:
            return
        self.path(target).parent.mkdir(parents=True, exist_ok=True)
        if self.path(source).exists():
            if image_format(self.path(source)) == "qcow2":
                await run("cp", "--reflink=auto", "--sparse=auto", self.path(source), self.path(target))
            else:
                await run("qemu-img", "convert", "-O", "qcow2", self.path(source), self.path(target))
        if _tree(self.path(source)).exists():
            await run("cp", "-a", "--reflink=auto", _tree(self.path(source)), _tree(self.path(target)))

    async def grow(self, volid: str, size: int) -> None:
        if self.real:
            await run("qemu-img", "resize", "-q", "-f", "qcow2", self.path(volid), size)

    async def adopt(self, volid: str, file: pathlib.Path) -> None:
        """Makes a finished file the content of a volume."""
        self.path(volid).parent.mkdir(parents=True, exist_ok=True)
        file.replace(self.path(volid))
        self.origin[volid] = await asyncio.to_thread(digest, self.path(volid), "sha256")

    def remove(self, volid: str) -> None:
        self.origin.pop(volid, None)
        self.path(volid).unlink(missing_ok=True)
        shutil.rmtree(_tree(self.path(volid)), ignore_errors=True)

    def sweep(self, storage: str, names: set[str]) -> None:
        """Removes the files of a storage that no volume of these names owns."""
        folder = self.folder / storage
        for path in folder.iterdir() if folder.exists() else ():
            name = urllib.parse.unquote(path.name.removesuffix(".tree"))
            if name not in names:
                self.remove(f"{storage}:{name}")

    def rename(self, old: str, new: str) -> None:
        if old in self.origin:
            self.origin[new] = self.origin.pop(old)
        for path, target in ((self.path(old), self.path(new)), (_tree(self.path(old)), _tree(self.path(new)))):
            if path.exists():
                path.rename(target)


def digest(file: pathlib.Path, algorithm: str) -> str:
    state = hashlib.new(algorithm)
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def image_format(file: pathlib.Path) -> str:
    with file.open("rb") as handle:
        return "qcow2" if handle.read(4) == b"QFI\xfb" else "raw"


def virtual_size(file: pathlib.Path) -> int:
    """Bytes a machine sees of an image file."""
    if image_format(file) != "qcow2":
        return file.stat().st_size
    with file.open("rb") as handle:
        handle.seek(24)
        return int.from_bytes(handle.read(8), "big")


def _tree(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".tree")
