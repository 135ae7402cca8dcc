"""What the lab builds of Kubernetes and of what surrounds it, from the Go module proxy, checked against its sums.

A program is built once and kept in the cache under a key of everything that it is made from. Two sources:

- a folder of ../../kubernetes/ with `go.mod` and `go.sum`, for what is not one module: Kubernetes names its own
  parts by folders of its source tree, and only a `go.mod` of ours can say which modules they are;
- the name of a package and its version, for the rest: as `go install` takes it, in a module made on the spot.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

from ..cache import forget_old
from . import toolchain
from .toolchain import CannotBuild

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "kubernetes"
# How many builds of one program stay in the cache: the present one, and that of the branch beside it.
KEEP = 2
# Go's own cache is for a build that was cut off and for one more patch release in the same breath: it is emptied when
# everything is built, and before that when it has grown above this, for two releases share nothing but Go itself.
GO_CACHE_LIMIT = 2 << 30
# Building takes whatever the machine has left, and leaves it to whoever works on it.
NICE = ("nice", "-n", "10")
# Seconds between two lines about a build that goes on.
REPORT_EVERY = 20


@dataclasses.dataclass(frozen=True)
class Program:
    """One build: its packages become files of the same folder."""

    name: str
    version: str
    packages: tuple[str, ...]
    module: str = ""
    folder: str = ""
    tags: str = ""
    stamps: tuple[str, ...] = ()
    # With a C compiler, for what has C in it; static all the same.
    c: bool = False

    def key(self) -> str:
        digest = hashlib.sha256(f"{self} {platform.machine()}".encode())
        for path in sorted((SOURCES / self.folder).glob("*")) if self.folder else ():
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    def linker_flags(self) -> str:
        stamps = " ".join(f"-X {stamp}" for stamp in self.stamps)
        return f"-s -w {stamps}" + (" -linkmode external -extldflags -static" if self.c else "")


def kubernetes(version: str) -> Program:
    """All programs of one release. Another patch release than the folder's is the same code that says another version."""
    major, minor, _patch = version.split(".")
    facts = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = [
        f"{package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in facts.items()
    ]
    names = ("kubeadm", "kubelet", "kubectl")
    names += ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    return Program(
        name=f"kubernetes-{major}.{minor}",
        version=version,
        packages=(*(f"k8s.io/kubernetes/cmd/{name}" for name in names), "k8s.io/kubernetes/test/images/agnhost"),
        folder=f"{major}.{minor}",
        stamps=tuple(stamps),
    )


def minors() -> list[str]:
    """The minor releases that the lab can build, the newest first."""
    found = [path.name for path in SOURCES.glob("1.*") if (path / "go.mod").exists()]
    return sorted(found, key=lambda name: int(name.split(".")[1]), reverse=True)


def release(minor: str) -> str:
    """The release whose code a minor's folder holds."""
    found = re.search(r"^require k8s\.io/kubernetes v(\S+)$", (SOURCES / minor / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise CannotBuild(f"{SOURCES / minor}/go.mod names no release of k8s.io/kubernetes")
    return found[1]


def _one(name: str, package: str, module: str, version: str, **more) -> Program:
    return Program(name=name, version=version, packages=(package,), module=module, **more)


_CNI = "github.com/containernetworking/plugins"
_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI_PLUGINS = (
    *("ipam/dhcp", "ipam/host-local", "ipam/static"),
    *(f"main/{name}" for name in ("bridge", "dummy", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "vlan")),
    *(f"meta/{name}" for name in ("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf")),
)

# What every cluster of the lab needs beside Kubernetes.
COMMON = {
    program.name: program
    for program in (
        _one("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "3.6.8"),
        Program("coredns", "1.14.2", ("groundwork.lab/coredns",), folder="coredns"),
        _one("crictl", "sigs.k8s.io/cri-tools/cmd/crictl", "sigs.k8s.io/cri-tools", "1.36.0",
             stamps=("sigs.k8s.io/cri-tools/pkg/version.Version=v1.36.0",)),
        Program("cni-plugins", "1.9.1", tuple(f"{_CNI}/plugins/{name}" for name in _CNI_PLUGINS), module=_CNI,
                stamps=(f"{_CNI}/pkg/utils/buildversion.BuildVersion=v1.9.1",)),
        Program("containerd", "2.2.9",
                tuple(f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
                module=_CONTAINERD, tags="no_btrfs no_devmapper no_zfs",
                stamps=(f"{_CONTAINERD}/version.Version=v2.2.9",)),
        _one("flannel", "github.com/flannel-io/flannel", "github.com/flannel-io/flannel", "0.27.4", c=True,
             stamps=("github.com/flannel-io/flannel/pkg/version.Version=v0.27.4",)),
        # Flannel's plugin as it was before it moved out of this module: the module it moved to is not on the proxy.
        _one("flannel-cni-plugin", f"{_CNI}/plugins/meta/flannel", _CNI, "0.9.1"),
    )
}
# What some clusters need, built when it is asked for.
EXTRA = {
    program.name: program
    for program in (
        _one("kube-vip", "github.com/kube-vip/kube-vip", "github.com/kube-vip/kube-vip", "0.9.1",
             stamps=("main.Version=v0.9.1",)),
        _one("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", "sigs.k8s.io/metrics-server", "0.8.0"),
    )
}


# ----------------------------------------------------------- building


def built(cache: pathlib.Path, program: Program) -> pathlib.Path | None:
    """The folder of a program's files, if the cache holds them."""
    folder = _place(cache, program)
    return folder if folder.is_dir() else None


def build(cache: pathlib.Path, wanted: list[Program]) -> dict[str, pathlib.Path]:
    """Builds what the cache does not hold; the folder of each program's files by its name and version."""
    if any(built(cache, program) is None for program in wanted):
        _build_missing(cache, wanted)
    folders = {f"{program.name}={program.version}": _place(cache, program) for program in wanted}
    for folder in folders.values():
        os.utime(folder)
    return folders


def _build_missing(cache: pathlib.Path, wanted: list[Program]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    # One build at a time: two would take the machine twice, for the same files.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [program for program in wanted if built(cache, program) is None]
        before = None
        for number, program in enumerate(missing, 1):
            if before and before.name != program.name and _size(cache / "go/build") > GO_CACHE_LIMIT:
                shutil.rmtree(cache / "go/build")
            _build(cache, program, f"{number} of {len(missing)}")
            before = program
        for program in wanted:
            os.utime(_place(cache, program))
        _tidy(cache)


def _place(cache: pathlib.Path, program: Program) -> pathlib.Path:
    return cache / "programs" / f"{program.name}={program.version}={program.key()}"


def _build(cache: pathlib.Path, program: Program, which: str) -> None:
    place = _place(cache, program)
    new = place.with_name(f"{place.name}.new-{os.getpid()}")
    new.mkdir(parents=True)
    label = f"kubernetes: {program.name} {program.version} ({which})"
    began = time.monotonic()
    print(f"{label}: building", file=sys.stderr, flush=True)
    try:
        with _module(program, cache) as (folder, compiler):
            compiler.compile(folder, program, new, label)
        new.rename(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    size = sum(path.stat().st_size for path in place.iterdir()) >> 20
    print(f"{label}: built in {time.monotonic() - began:.0f} s, {size} MiB", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _module(program: Program, cache: pathlib.Path):
    """The module to build in, and the Go to build with."""
    compiler = Go(toolchain.go(cache), cache / "go", program.c)
    if program.folder:
        yield SOURCES / program.folder, compiler
        return
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        compiler.run(folder, "mod", "init", "groundwork.lab/build")
        compiler.run(folder, "get", *(f"{package}@v{program.version}" for package in program.packages))
        yield folder, compiler


class Go:
    """Go with caches of the lab's own and without a say of the user's settings."""

    def __init__(self, program: str, cache: pathlib.Path, c: bool):
        self.program = program
        self.environment = {
            **os.environ,
            "GOCACHE": str(cache / "build"),
            "GOMODCACHE": str(cache / "modules"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "-trimpath -buildvcs=false -modcacherw",
            # Static: what goes into an image finds no C library there.
            "CGO_ENABLED": "1" if c else "0",
        }

    def run(self, folder: pathlib.Path, *arguments: str) -> str:
        command = [*NICE, self.program, *arguments]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"go {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")
        return done.stdout

    def compile(self, folder: pathlib.Path, program: Program, target: pathlib.Path, label: str) -> None:
        """Builds a program and says how far it is."""
        # Nobody debugs these: without that information the compiler has a tenth less to do, and its cache half the size.
        flags = ["-tags", program.tags, "-gcflags", "all=-dwarf=false", "-ldflags", program.linker_flags()]
        total = len(self.run(folder, "list", "-deps", "-tags", program.tags, *program.packages).split())
        command = [*NICE, self.program, "build", "-v", *flags, "-o", f"{target}/", *program.packages]
        done = 0
        # The compiler names every package it begins with, on a stream that also holds its errors.
        with subprocess.Popen(command, cwd=folder, env=self.environment, stderr=subprocess.PIPE, text=True) as process:
            said, reported, began = [], time.monotonic(), time.monotonic()
            for line in process.stderr:
                said.append(line)
                done += 1
                if time.monotonic() - reported > REPORT_EVERY:
                    reported = time.monotonic()
                    share = f"{done} of {total} packages, {reported - began:.0f} s"
                    print(f"{label}: {share}", file=sys.stderr, flush=True)
        if process.returncode:
            raise CannotBuild(f"{label}: the build failed:\n{''.join(said)[-3000:]}")


# ----------------------------------------------------------- bounds


def _tidy(cache: pathlib.Path) -> None:
    """Takes away old builds, what killed ones left, and Go's caches: sources are quickly had again."""
    by_name: dict[str, list[pathlib.Path]] = {}
    for path in (cache / "programs").iterdir():
        if ".new-" in path.name:
            shutil.rmtree(path, ignore_errors=True)
        else:
            by_name.setdefault(path.name.split("=")[0], []).append(path)
    for paths in by_name.values():
        forget_old(paths, KEEP)
    for name in ("modules", "build"):
        shutil.rmtree(cache / "go" / name, ignore_errors=True)


def _size(folder: pathlib.Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
