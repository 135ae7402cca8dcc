"""The machine image: built once from the distribution's packages, kept in the cache.

One build gives a disk image (`image.qcow2`), the kernel and initial RAM disk to boot it with, and the same system
as a folder (`root/`), which containers use as the lower layer of their root. A container whose disk was imported
from the disk image finds the folder by the image's SHA-256.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

from .cache import forget_old

HERE = pathlib.Path(__file__).resolve().parent.parent / "image"
DISK_SIZE = "3G"
PARTITION_START = 1024 * 1024
KEEP_RECIPES = 3
KERNELS = {("debian", "amd64"): "linux-image-cloud-amd64", ("debian", "arm64"): "linux-image-cloud-arm64"}


class CannotBuild(Exception):
    """The image cannot be built; the message says why."""


@dataclasses.dataclass(frozen=True)
class Image:
    """A built machine image."""

    folder: pathlib.Path
    sha256: str

    @property
    def disk(self) -> pathlib.Path:
        return self.folder / "image.qcow2"

    @property
    def root(self) -> pathlib.Path:
        return self.folder / "root"

    @property
    def kernel(self) -> pathlib.Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> pathlib.Path:
        return self.folder / "initrd"


def get(cache: pathlib.Path) -> Image:
    """The image of the present recipe, built if the cache does not hold it."""
    folder = cache / f"image-{recipe()}"
    with _locked(cache):
        if not (folder / "image.json").exists():
            _build(folder)
            _forget_old(cache, folder)
        facts = json.loads((folder / "image.json").read_text())
        os.utime(folder)
    return Image(folder, facts["sha256"])


def by_digest(cache: pathlib.Path, sha256: str) -> Image | None:
    """The built image with this digest, if there is one: an older recipe's counts too."""
    for facts in cache.glob("image-*/image.json"):
        if json.loads(facts.read_text())["sha256"] == sha256:
            return Image(facts.parent, sha256)
    return None


def recipe() -> str:
    """Everything the image depends on, but for the packages the distribution has just now."""
    digest = hashlib.sha256(f"{os_release()} {platform.machine()}".encode())
    for path in sorted([pathlib.Path(__file__), *HERE.rglob("*")]):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _build(folder: pathlib.Path) -> None:
    work = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _say("machine image: installing the system")
    _bootstrap(work / "root")
    _say("machine image: making the disk")
    _take_kernel(work)
    _make_disk(work)
    sha256 = digest_of(work / "image.qcow2")
    (work / "image.json").write_text(json.dumps({"sha256": sha256}) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def _bootstrap(root: pathlib.Path) -> None:
    distribution, codename = os_release()
    _run(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--mode=root",
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--include={','.join(_packages(distribution))}",
        f"--essential-hook=sync-in '{HERE / 'files'}' /",
        f"--customize-hook=LAB_CODENAME={codename} '{HERE / 'customize.sh'}' \"$1\"",
        codename,
        str(root),
        *sources(distribution, codename),
    )


def sources(distribution: str, codename: str) -> list[str]:
    """The distribution's own archives among the host's; mmdebstrap's guess where the host has no lists of packages."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = ("Identifier: Packages", f"Origin: {distribution.capitalize()}")
    lines = set(_run("apt-get", "indextargets", "--format", line, *targets).splitlines())
    return sorted(found for found in lines if found.split()[2].startswith(codename))


def _packages(distribution: str) -> list[str]:
    architecture = _run("dpkg", "--print-architecture").strip()
    kernel = KERNELS.get((distribution, architecture), "linux-image-virtual")
    lines = (line.split("#", 1)[0].strip() for line in (HERE / "packages.txt").read_text().splitlines())
    return [kernel if line == "KERNEL" else line for line in lines if line]


def _take_kernel(work: pathlib.Path) -> None:
    for wanted, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        found = sorted((work / "root/boot").glob(pattern))
        if not found:
            raise CannotBuild(f"the system has no /boot/{pattern}")
        shutil.copy2(found[-1], work / wanted)


def _make_disk(work: pathlib.Path) -> None:
    """A GPT disk with one partition, which cloud-init grows at the first boot."""
    raw = work / "image.raw"
    _run("truncate", "-s", DISK_SIZE, str(raw))
    _run("sfdisk", "--quiet", str(raw), stdin="label: gpt\nstart=1MiB, type=L\n")
    # The partition ends a megabyte before the end of the disk, where the second table lies.
    kib = (raw.stat().st_size - PARTITION_START) // 1024 - 1024
    offset = f"offset={PARTITION_START},lazy_itable_init=1"
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(work / "root"), "-E", offset, str(raw), f"{kib}k")
    _run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", str(raw), str(work / "image.qcow2"))
    raw.unlink()


def _forget_old(cache: pathlib.Path, current: pathlib.Path) -> None:
    forget_old([facts.parent for facts in cache.glob("image-*/image.json") if facts.parent != current], KEEP_RECIPES - 1)


def os_release() -> tuple[str, str]:
    """The host's distribution and its release, which are the machines' too."""
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    values = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    if values.get("ID") not in ("debian", "ubuntu") or "VERSION_CODENAME" not in values:
        raise CannotBuild("the machine image is built from the host's packages: Debian or Ubuntu is needed")
    return values["ID"], values["VERSION_CODENAME"]


@contextlib.contextmanager
def _locked(cache: pathlib.Path):
    """Two labs that start at once build one image."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{' '.join(argv)} failed ({done.returncode}):\n{done.stderr.strip()}")
    return done.stdout


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def digest_of(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
