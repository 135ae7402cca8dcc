"""Container images of what was built, as a registry keeps them: blobs by their digest, and an index of names and tags.

Layers are not compressed: every machine reads them over a cable that costs nothing, and unpacking would cost
processor time on each of them.
"""

import dataclasses
import fcntl
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile

from ..cache import forget_old
from . import base
from .toolchain import CannotBuild

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "kubernetes"
KEEP = 3
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: files on top of the Debian base or of nothing."""

    names: tuple[str, ...]
    files: tuple[tuple[str, pathlib.Path], ...]
    on_base: bool = False
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def build(cache: pathlib.Path, images: list[Image]) -> pathlib.Path:
    """The folder of a registry that holds these images; a look-up when the cache has it."""
    place = cache / "images" / _key(images)
    with (cache / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "index.json").exists():
            print(f"kubernetes: packing {len(images)} images", file=sys.stderr, flush=True)
            _write(place, images)
            forget_old([path for path in place.parent.iterdir() if path != place], KEEP - 1)
        os.utime(place)
    return place


def pause(cache: pathlib.Path) -> pathlib.Path:
    """The program of the image that holds a pod's namespaces."""
    source = SOURCES / "pause.c"
    target = cache / "programs" / f"pause=1={hashlib.sha256(source.read_bytes()).hexdigest()[:16]}" / "pause"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-Os", "-static", "-s", "-Wall", "-Werror", "-o", target, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"pause cannot be compiled:\n{done.stderr}")
    return target


def _key(images: list[Image]) -> str:
    digest = hashlib.sha256(f"{base.key()} {platform.machine()}".encode())
    for module in (pathlib.Path(__file__), pathlib.Path(base.__file__)):
        digest.update(module.read_bytes())
    for image in images:
        digest.update(repr(image).encode())
    return digest.hexdigest()[:16]


def _write(place: pathlib.Path, images: list[Image]) -> None:
    new = place.with_name(f"{place.name}.new-{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    (new / "blobs").mkdir(parents=True)
    try:
        store = Store(new)
        shared = store.add_file(base.build(new)) if any(image.on_base for image in images) else None
        index: dict[str, dict[str, str]] = {}
        for image in images:
            manifest = store.add_image(image, shared)
            for name in image.names:
                repository, _, tag = name.rpartition(":")
                index.setdefault(repository, {})[tag] = manifest
        (new / "index.json").write_text(json.dumps(index, indent=1) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


class Store:
    """Blobs by their digest, as files of one folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def add(self, content: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / digest).write_bytes(content)
        return f"sha256:{digest}", len(content)

    def add_file(self, file: pathlib.Path) -> tuple[str, int]:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        blob = self.folder / "blobs" / digest
        # Sets of images share most of their layers.
        other = next(self.folder.parent.glob(f"*/blobs/{digest}"), None)
        if other is None:
            file.rename(blob)
        elif not blob.exists():
            os.link(other, blob)
        file.unlink(missing_ok=True)
        return f"sha256:{digest}", blob.stat().st_size

    def add_image(self, image: Image, base_layer: tuple[str, int] | None) -> str:
        layers = [base_layer] if image.on_base and base_layer else []
        layers.append(self.add_file(_layer(image, self.folder / "layer.tar")))
        config = {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": [PATH], "Entrypoint": list(image.entrypoint), "Cmd": list(image.command)},
            "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in layers]},
        }
        digest, size = self.add(json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest, "size": size},
            "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in layers],
        }
        return self.add(json.dumps(manifest).encode())[0]


def _layer(image: Image, target: pathlib.Path) -> pathlib.Path:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as layer:
        if not image.on_base:
            for name in ("etc", "tmp"):
                layer.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
            passwd = b"root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
            entry = _entry("etc/passwd", tarfile.REGTYPE, 0o644)
            entry.size = len(passwd)
            layer.addfile(entry, io.BytesIO(passwd))
        folders = {str(parent) for path, _ in image.files for parent in pathlib.PurePath(path).parents}
        for folder in sorted(folders - {"."}):
            layer.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        for path, file in image.files:
            entry = _entry(path, tarfile.REGTYPE, 0o755)
            entry.size = file.stat().st_size
            with file.open("rb") as content:
                layer.addfile(entry, content)
    return target


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uname, entry.gname = kind, mode, "root", "root"
    return entry
