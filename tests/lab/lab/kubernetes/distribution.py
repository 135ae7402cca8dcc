"""One lab's Kubernetes: which releases, built, and as images. The Debian packages are made in ../packages/."""

import dataclasses
import pathlib
import subprocess

from . import images, programs
from .toolchain import CannotBuild

# What kube-flannel.yml and kubeadm name; a registry is asked without the registry's name.
FLANNEL = ("flannel-io/flannel", "flannel-io/flannel-cni-plugin")
AGNHOST = "e2e-test-images/agnhost"
# Tags that upstream has as well, so that a manifest holds for both.
AGNHOST_TAG, FLANNEL_PLUGIN_TAG = "2.53", "v1.8.0-flannel1"


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Everything built for the releases that were asked for."""

    cache: pathlib.Path
    versions: tuple[str, ...]
    folders: dict[str, pathlib.Path]
    extra: tuple[str, ...] = ()

    def release(self, version: str) -> pathlib.Path:
        return self.folders[f"kubernetes-{minor_of(version)}={version}"]

    def common(self, name: str) -> tuple[str, pathlib.Path]:
        """Version and folder of something that all releases share."""
        version = {**programs.COMMON, **programs.EXTRA}[name].version
        return version, self.folders[f"{name}={version}"]

    def registry(self) -> pathlib.Path:
        """The folder of a registry with the images of all these releases."""
        return images.build(self.cache, list(self._images()))

    def _images(self):
        tags: dict[str, set[str]] = {}
        for version in self.versions:
            for name, tag in _asked_by_kubeadm(self.release(version), version):
                if name.startswith("kube-"):
                    yield self._component(version, name, tag)
                else:
                    tags.setdefault(name, set()).add(tag)
            tags.setdefault(AGNHOST, set()).add(AGNHOST_TAG)
        tags.setdefault("pause", set()).add(_asked_by_containerd(self.common("containerd")[1]))
        etcd, coredns = self.common("etcd")[1] / "server", self.common("coredns")[1] / "coredns"
        yield images.Image(_names("etcd", tags["etcd"]), (("usr/local/bin/etcd", etcd),))
        yield images.Image(_names("coredns/coredns", tags["coredns/coredns"]), (("coredns", coredns),), entrypoint=("/coredns",))
        yield images.Image(_names("pause", tags["pause"]), (("pause", images.pause(self.cache)),), entrypoint=("/pause",))
        yield from self._flannel()
        for name in self.extra:
            version, folder = self.common(name)
            files = ((name, folder / name),)
            yield images.Image((f"{name}/{name}:v{version}",), files, on_base=True, entrypoint=(f"/{name}",))
        agnhost = self.release(self.versions[0]) / "agnhost"
        yield images.Image(
            _names(AGNHOST, tags[AGNHOST]), (("agnhost", agnhost),), on_base=True, entrypoint=("/agnhost",), command=("pause",)
        )

    def _component(self, version: str, name: str, tag: str) -> images.Image:
        file = (f"usr/local/bin/{name}", self.release(version) / name)
        return images.Image((f"{name}:{tag}",), (file,), on_base=name == "kube-proxy")

    def _flannel(self):
        version, folder = self.common("flannel")
        yield images.Image((f"{FLANNEL[0]}:v{version}",), (("opt/bin/flanneld", folder / "flannel"),), on_base=True)
        _version, folder = self.common("flannel-cni-plugin")
        yield images.Image((f"{FLANNEL[1]}:{FLANNEL_PLUGIN_TAG}",), (("flannel", folder / "flannel"),), on_base=True)


def minor_of(version: str) -> str:
    return version.rpartition(".")[0]


def build(cache: pathlib.Path, wanted: list[str]) -> Distribution:
    """Builds what the cache does not hold of `wanted`: minor releases or versions, the first one being the lab's, and extras."""
    extra = tuple(name for name in wanted if name in programs.EXTRA)
    versions = tuple(dict.fromkeys(version_of(name) for name in wanted if name not in extra))
    return Distribution(cache, versions, programs.build(cache, _listed(versions, extra)), extra)


def is_built(cache: pathlib.Path, minor: str) -> bool:
    """Whether the cache holds everything for a minor release."""
    return all(programs.built(cache, program) for program in _listed((version_of(minor),), ()))


def _listed(versions: tuple[str, ...], extra: tuple[str, ...]) -> list[programs.Program]:
    # The largest comes last: until then Go's cache keeps what all of them are compiled with.
    listed = [*programs.COMMON.values(), *(programs.EXTRA[name] for name in extra)]
    return listed + [programs.kubernetes(version) for version in versions]


def build_containerd(cache: pathlib.Path) -> Distribution:
    """No Kubernetes, and the runtime that one from elsewhere needs."""
    return Distribution(cache, (), programs.build(cache, [programs.COMMON["containerd"]]))


def version_of(name: str) -> str:
    """`1.36` is the release of its folder, `1.36.4` that code under another version."""
    known = programs.minors()
    minor = name if name.count(".") == 1 else minor_of(name)
    if minor not in known:
        raise CannotBuild(f"Kubernetes {name} cannot be built here: the lab has {', '.join(known)}")
    return name if minor != name else programs.release(minor)


def _asked_by_kubeadm(folder: pathlib.Path, version: str) -> list[tuple[str, str]]:
    """Names and tags of a release's images, without the registry."""
    command = [folder / "kubeadm", "config", "images", "list", "--kubernetes-version", f"v{version}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [tuple(line.partition("/")[2].rsplit(":", 1)) for line in said.split()]


def _asked_by_containerd(folder: pathlib.Path) -> str:
    """Tag of the pause image that this containerd takes when it is told nothing."""
    said = subprocess.run([folder / "containerd", "config", "default"], check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.strip().startswith("sandbox = "))
    return line.strip().strip("'\"").rpartition(":")[2]


def _names(repository: str, tags: set[str]) -> tuple[str, ...]:
    return tuple(f"{repository}:{tag}" for tag in sorted(tags))
