"""Debian packages of what the lab builds, with the files and relations of those on pkgs.k8s.io.

As there: nothing is enabled or started when the kubelet is installed, cri-tools is no dependency of anything, and
`.kubelet-keep` lies in the two folders that the kubelet's package owns.
"""

import pathlib
import shutil
import subprocess
import tempfile

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "kubernetes" / "debian"
UNITS = "usr/lib/systemd/system"
NOTICE = "Built for the lab of Groundwork from upstream's sources; not a package of the Kubernetes project's."
# Versions of the two packages that each of upstream's repositories carries beside Kubernetes.
REVISION = "1.1"
KUBELET_NEEDS = "iptables (>= 1.4.21), kubernetes-cni (>= 1.2.0), libc6, mount, util-linux"

CONTAINERD_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    deb-systemd-helper enable containerd.service >/dev/null || true
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
        deb-systemd-invoke restart containerd.service >/dev/null || true
    fi
fi
"""
CONTAINERD_PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop containerd.service >/dev/null || true
fi
"""
CONTAINERD_POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    deb-systemd-helper purge containerd.service >/dev/null || true
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"""
KUBELET_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"""


def build_release(version: str, programs: pathlib.Path, architecture: str, target: pathlib.Path) -> list[str]:
    """kubeadm, kubelet and kubectl of one release; their `name=version`."""
    target.mkdir(parents=True, exist_ok=True)
    revision = f"{version}-{REVISION}"
    made = []
    summaries = {
        "kubeadm": ("admin", "", "Command-line utility for administering a Kubernetes cluster"),
        "kubectl": ("admin", "", "Command-line utility for interacting with a Kubernetes cluster"),
        "kubelet": ("net", KUBELET_NEEDS, "Node agent for Kubernetes clusters"),
    }
    for name, (section, depends, summary) in summaries.items():
        with Package(name, revision, architecture, depends, section, summary) as package:
            package.program(f"usr/bin/{name}", programs / name)
            if name == "kubeadm":
                package.file(f"{UNITS}/kubelet.service.d/10-kubeadm.conf", _source("10-kubeadm.conf"))
            if name == "kubelet":
                _add_kubelet_files(package)
            made.append(package.build(target))
    return made


def build_tools(tools: dict[str, tuple[str, pathlib.Path]], architecture: str, target: pathlib.Path) -> list[str]:
    """cri-tools and kubernetes-cni, which every repository of a minor release has."""
    version, folder = tools["crictl"]
    with Package("cri-tools", f"{version}-{REVISION}", architecture, "", "admin", "Command-line utility for a CRI") as package:
        package.program("usr/bin/crictl", folder / "crictl")
        made = [package.build(target)]
    version, folder = tools["cni-plugins"]
    summary = "Binaries required to provision kubernetes container networking"
    with Package("kubernetes-cni", f"{version}-{REVISION}", architecture, "", "net", summary) as package:
        for plugin in sorted(folder.iterdir()):
            package.program(f"opt/cni/bin/{plugin.name}", plugin)
        made.append(package.build(target))
    return made


def build_containerd(version: str, programs: pathlib.Path, architecture: str, target: pathlib.Path) -> str:
    """containerd as the distribution's package has it, of a version that Kubernetes of today works with."""
    summary = "Open and reliable container runtime"
    depends = "runc (>= 1.0.0~rc10~), init-system-helpers (>= 1.54~)"
    with Package("containerd", f"{version}-1~lab1", architecture, depends, "admin", summary) as package:
        for program in sorted(programs.iterdir()):
            package.program(f"usr/bin/{program.name}", program)
        package.file("lib/systemd/system/containerd.service", _source("containerd.service"))
        package.script("postinst", CONTAINERD_POSTINST)
        package.script("prerm", CONTAINERD_PRERM)
        package.script("postrm", CONTAINERD_POSTRM)
        return package.build(target)


def _add_kubelet_files(package: "Package") -> None:
    package.file(f"{UNITS}/kubelet.service", _source("kubelet.service"))
    package.file("etc/default/kubelet", b"KUBELET_EXTRA_ARGS=\n")
    package.file("DEBIAN/conffiles", b"/etc/default/kubelet\n")
    for folder in ("etc/kubernetes/manifests", "var/lib/kubelet"):
        package.file(f"{folder}/.kubelet-keep", b"")
    for folder in ("etc/kubernetes", "etc/kubernetes/manifests", "var/lib/kubelet"):
        (package.root / folder).chmod(0o775)
    package.script("postinst", KUBELET_POSTINST)


def _source(name: str) -> bytes:
    return (SOURCES / name).read_bytes()


class Package:
    """A binary package being put together in a folder of its own."""

    def __init__(self, name: str, version: str, architecture: str, depends: str, section: str, summary: str):  # noqa: PLR0913
        self.control = {
            "Package": name,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "Groundwork lab <lab@groundwork.invalid>",
            **({"Depends": depends} if depends else {}),
            "Section": section,
            "Priority": "optional",
            "Homepage": "https://kubernetes.io",
            "Description": f"{summary}\n {NOTICE}",
        }

    def __enter__(self) -> "Package":
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.root.chmod(0o755)
        (self.root / "DEBIAN").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)

    def program(self, path: str, source: pathlib.Path) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)

    def script(self, name: str, text: str) -> None:
        self.file(f"DEBIAN/{name}", text.encode(), 0o755)

    def build(self, target: pathlib.Path) -> str:
        text = "".join(f"{field}: {value}\n" for field, value in self.control.items())
        (self.root / "DEBIAN" / "control").write_text(text)
        name, version = self.control["Package"], self.control["Version"]
        out = target / f"{name}_{version}_{self.control['Architecture']}.deb"
        # Each machine of each lab unpacks them.
        command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(self.root), str(out)]
        subprocess.run(command, check=True, text=True, capture_output=True)
        return f"{name}={version}"
