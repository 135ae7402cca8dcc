"""Stand-in packages: same names, versions, files and dependencies as those of pkgs.k8s.io, none of their content.

Each program is one file, /usr/bin/NAME, a Python zip application made from the modules in standin/.
"""

import io
import pathlib
import py_compile
import shutil
import subprocess
import tempfile
import zipfile

NOTICE = "Groundwork lab stand-in, not Kubernetes"

# The newest release in a repository is deliberately not the one the examples ask for.
MINORS = {"1.28": ["1.28.4", "1.28.7"]}

PYTHON = "python3, python3-yaml, python3-cryptography"
KUBELET_NEEDS = "iptables (>= 1.4.21), kubernetes-cni (>= 1.2.0), iproute2, socat, util-linux, mount, ebtables, ethtool, conntrack"
SHARED = {
    "cri-tools": ("1.28.0-1.1", "crictl", "Command line of the container runtime interface", f"{PYTHON}"),
    "kubernetes-cni": ("1.2.0-2.1", None, "CNI plugins, as links to Debian's", "containernetworking-plugins"),
}
KUBERNETES = {
    "kubeadm": (
        f"kubelet (>= 1.19.0), kubectl (>= 1.19.0), kubernetes-cni (>= 1.2.0), cri-tools (>= 1.28.0), {PYTHON}",
        "Bootstrapping of clusters",
    ),
    "kubelet": (f"{KUBELET_NEEDS}, {PYTHON}", "Node agent"),
    "kubectl": (PYTHON, "Command line of the API"),
}
CNI_PLUGINS = (
    "bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tuning vlan vrf".split()
)

KUBELET_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -z "$2" ]; then systemctl enable kubelet.service; fi
    systemctl start --no-block kubelet.service || true
elif [ "$1" = configure ] && [ -z "$2" ]; then
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf /usr/lib/systemd/system/kubelet.service /etc/systemd/system/multi-user.target.wants/kubelet.service
fi
"""
KUBELET_PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now kubelet.service || true
fi
"""


def build(sources: pathlib.Path, minor: str, architecture: str, target: pathlib.Path) -> list[str]:
    """Builds all packages of a minor release into `target`; returns their `name=version`."""
    target.mkdir(parents=True)
    made = []
    for name, (version, program, summary, depends) in SHARED.items():
        with Package(name, version, architecture, depends, summary) as package:
            if program:
                package.program(program, application(sources, program, minor))
            else:
                for plugin in CNI_PLUGINS:
                    package.link(f"opt/cni/bin/{plugin}", f"/usr/lib/cni/{plugin}")
            made.append(package.build(target))
    for release in MINORS[minor]:
        for name, (depends, summary) in KUBERNETES.items():
            with Package(name, f"{release}-1.1", architecture, depends, summary) as package:
                package.program(name, application(sources, name, release))
                if name == "kubelet":
                    _add_kubelet_unit(package, sources / "deb")
                made.append(package.build(target))
    return made


def _add_kubelet_unit(package: "Package", files: pathlib.Path) -> None:
    units = "usr/lib/systemd/system"
    package.file(f"{units}/kubelet.service", (files / "kubelet.service").read_bytes())
    package.file(f"{units}/kubelet.service.d/10-kubeadm.conf", (files / "10-kubeadm.conf").read_bytes())
    package.script("postinst", KUBELET_POSTINST)
    package.script("prerm", KUBELET_PRERM)


def application(sources: pathlib.Path, program: str, release: str) -> bytes:
    """One executable file: the modules, and a main module that starts `program` as of `release`."""
    main = f'"""{NOTICE}."""\nfrom standin import release\nrelease.VERSION = "v{release}"\n'
    main += f"from standin import {program}\n{program}.main()\n"
    content = io.BytesIO(b"")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("__main__.py"), main)
        for path in sorted(sources.glob("standin/*.py")):
            archive.writestr(_entry(f"standin/{path.name}"), path.read_bytes())
            archive.writestr(_entry(f"standin/{path.name}c"), _compiled(path))
    return b"#!/usr/bin/python3 -sE\n" + content.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def _compiled(path: pathlib.Path) -> bytes:
    """Bytecode beside the source makes a start faster; another Python than this one ignores it."""
    with tempfile.NamedTemporaryFile(suffix=".pyc") as out:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(path), cfile=out.name, dfile=path.name, doraise=True, invalidation_mode=mode)
        return pathlib.Path(out.name).read_bytes()


class Package:
    """A binary package being put together in a directory of its own."""

    def __init__(self, name: str, version: str, architecture: str, depends: str, summary: str):
        self.name, self.version, self.architecture = name, version, architecture
        self.depends, self.summary = depends, summary

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

    def program(self, name: str, content: bytes) -> None:
        self.file(f"usr/bin/{name}", content, 0o755)

    def link(self, path: str, to: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(to)

    def script(self, name: str, text: str) -> None:
        self.file(f"DEBIAN/{name}", text.encode(), 0o755)

    def build(self, target: pathlib.Path) -> str:
        control = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": "Groundwork lab <lab@groundwork.invalid>",
            "Depends": self.depends,
            "Section": "misc",
            "Priority": "optional",
            "Description": f"{NOTICE}: {self.name}\n {self.summary}, imitated for trying Groundwork offline.\n"
            " It checks the configuration it is given and behaves as recordings of the\n"
            " real program do. It runs no containers and must not be used for anything else.",
        }
        text = "".join(f"{field}: {value}\n" for field, value in control.items())
        (self.root / "DEBIAN" / "control").write_text(text)
        out = target / f"{self.name}_{self.version}_{self.architecture}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(self.root), str(out)]
        subprocess.run(command, check=True, text=True, capture_output=True)
        return f"{self.name}={self.version}"
