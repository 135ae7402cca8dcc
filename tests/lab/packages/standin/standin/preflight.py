"""Checks before the work, against the machine as it is."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

from standin import cri, manifests, paths, release, words
from standin.words import Failure, quoted

MINIMUM_CPUS, MINIMUM_MEMORY = 2, 1700
BINARIES = [
    ("crictl", True),
    ("conntrack", True),
    ("ip", True),
    ("iptables", True),
    ("mount", True),
    ("nsenter", True),
    ("ebtables", False),
    ("ethtool", False),
    ("socat", False),
    ("tc", False),
    ("touch", False),
]
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
BRIDGE = "/proc/sys/net/bridge/bridge-nf-call-iptables"
PULL = [
    "Pulling images required for setting up a Kubernetes cluster",
    "This might take a minute or two, depending on the speed of your internet connection",
    "You can also perform this action in beforehand using 'kubeadm config images pull'",
]


class Checks:
    """Findings so far; what is ignored by name becomes a warning."""

    def __init__(self, ignored: list[str]):
        self.ignored = {name.lower() for name in ignored}
        self.errors: list[tuple[str, str]] = []
        self.warnings: list[tuple[str, str]] = []

    def error(self, name: str, text: str) -> None:
        spared = name.lower() in self.ignored or "all" in self.ignored
        (self.warnings if spared else self.errors).append((name, text))

    def warn(self, name: str, text: str) -> None:
        self.warnings.append((name, text))

    def report(self) -> None:
        """Prints the warnings; raises with the errors."""
        for name, text in self.warnings:
            print(f"\t[WARNING {name}]: {text}", file=sys.stderr, flush=True)
        self.warnings = []
        if self.errors:
            lines = "".join(f"\t[ERROR {name}]: {text}\n" for name, text in self.errors)
            advice = "[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`"
            raise Failure(f"[preflight] Some fatal errors occurred:\n{lines}{advice}")


def root(checks: Checks) -> None:
    if os.geteuid() != 0:
        checks.error("IsPrivilegedUser", "user is not running as root")
        checks.report()


def before_init(made: dict, cluster: dict, ignored: list[str], dry_run: bool = False) -> None:
    words.out("[preflight] Running pre-flight checks")
    checks = Checks([*ignored, *(made["nodeRegistration"].get("ignorePreflightErrors") or [])])
    root(checks)
    _resources(checks)
    _versions(checks, cluster["kubernetesVersion"])
    _services(checks)
    port = made["localAPIEndpoint"]["bindPort"]
    for each in (port, 10259, 10257):
        _port(checks, each)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
        _absent(checks, paths.MANIFESTS / f"{name}.yaml")
    _common(checks, made["nodeRegistration"])
    for each in (10250, 2379, 2380):
        _port(checks, each)
    if "local" in cluster["etcd"]:
        _empty(checks, paths.ROOT / cluster["etcd"]["local"]["dataDir"].lstrip("/"))
    checks.report()
    if dry_run:
        words.out("[preflight] Would pull the required images (like 'kubeadm config images pull')")
        return
    for line in PULL:
        words.out(f"[preflight] {line}")
    _images(checks, cluster)
    checks.report()


def before_join(made: dict, ignored: list[str]) -> None:
    words.out("[preflight] Running pre-flight checks")
    checks = Checks([*ignored, *(made["nodeRegistration"].get("ignorePreflightErrors") or [])])
    root(checks)
    _services(checks)
    for path in (paths.KUBELET_CONF, paths.BOOTSTRAP_CONF):
        _absent(checks, path)
    _common(checks, made["nodeRegistration"])
    _port(checks, 10250)
    _absent(checks, paths.PKI / "ca.crt")
    checks.report()


def before_reset() -> None:
    words.out("[preflight] Running pre-flight checks")
    checks = Checks([])
    root(checks)


def _common(checks: Checks, registration: dict) -> None:
    _runtime(checks, registration["criSocket"])
    for path in (BRIDGE, FORWARDING):
        _content(checks, path)
    _swap(checks)
    for name, needed in BINARIES:
        if not shutil.which(name):
            (checks.error if needed else checks.warn)(f"FileExisting-{name}", f"{name} not found in system path")
    _hostname(checks, registration["name"])
    _kubelet(checks)


def _resources(checks: Checks) -> None:
    cpus = os.cpu_count() or 1
    if cpus < MINIMUM_CPUS:
        checks.error("NumCPU", f"the number of available CPUs {cpus} is less than the required {MINIMUM_CPUS}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    if memory < MINIMUM_MEMORY:
        checks.error("Mem", f"the system RAM ({memory} MB) is less than the minimum {MINIMUM_MEMORY} MB")


def _versions(checks: Checks, version: str) -> None:
    mine, wanted = release.numbers(release.VERSION), release.numbers(version)
    if wanted[:2] > mine[:2]:
        text = "Kubernetes version is greater than kubeadm version. Please consider to upgrade kubeadm."
        checks.warn("KubernetesVersion", f"{text} Kubernetes version: {version.removeprefix('v')}. Kubeadm version: {mine[0]}.{mine[1]}.x")


def _services(checks: Checks) -> None:
    if not shutil.which("systemctl"):
        words.warning(
            "kubelet.go:202",
            "cannot determine if systemd-resolved is active: no supported init system detected, skipping checking for services",
        )
        for name in ("Firewalld", "Service-Kubelet"):
            checks.warn(name, "no supported init system detected, skipping checking for services")
        return
    if _systemctl("is-active", "firewalld"):
        checks.warn(
            "Firewalld", "firewalld is active, please ensure ports [6443 10250] are open or your cluster may not function correctly"
        )
    if not _systemctl("cat", "kubelet"):
        checks.warn("Service-Kubelet", "kubelet service does not exist")
    elif not _systemctl("is-enabled", "kubelet"):
        checks.warn("Service-Kubelet", "kubelet service is not enabled, please run 'systemctl enable kubelet.service'")


def _systemctl(*arguments: str) -> bool:
    return subprocess.run(["systemctl", *arguments], capture_output=True, check=False).returncode == 0


def _port(checks: Checks, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError:
            checks.error(f"Port-{port}", f"Port {port} is in use")


def _absent(checks: Checks, path: pathlib.Path) -> None:
    if path.exists():
        checks.error(f"FileAvailable-{_dashed(path)}", f"{path} already exists")


def _empty(checks: Checks, path: pathlib.Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        checks.error(f"DirAvailable-{_dashed(path)}", f"{path} is not empty")


def _content(checks: Checks, path: str) -> None:
    name = f"FileContent-{path.replace('/', '-')}"
    try:
        if pathlib.Path(path).read_text().strip() != "1":
            checks.error(name, f"{path} contents are not set to 1")
    except OSError:
        checks.error(name, f"{path} does not exist")


def _dashed(path: pathlib.Path) -> str:
    return "/".join(["", *path.relative_to(paths.ROOT).parts]).replace("/", "-")


def _runtime(checks: Checks, endpoint: str) -> None:
    if not shutil.which("crictl"):
        text = "Couldn't create the interface used for talking to the container runtime"
        words.warning(
            "checks.go:1064",
            f"[preflight] WARNING: {text}: crictl is required by the container runtime: executable file not found in $PATH",
        )
        return
    try:
        cri.Runtime(endpoint).version()
    except cri.NotRunning as problem:
        checks.error("CRI", f"container runtime is not running: output: {fatal(problem)}\n, error: exit status 1")


def fatal(problem: Exception) -> str:
    """As crictl logs its end."""
    return f'time="{words.now()}" level=fatal msg={quoted(str(problem))}'


def swaps() -> list[str]:
    """Devices and files swapped to. In a container they are the host's, and no business of its kubelet."""
    if pathlib.Path("/run/systemd/container").exists():
        return []
    return pathlib.Path("/proc/swaps").read_text().splitlines()[1:]


def _swap(checks: Checks) -> None:
    if swaps():
        text = "swap is enabled; production deployments should disable swap unless testing the NodeSwap feature gate of the kubelet"
        checks.warn("Swap", text)


def _hostname(checks: Checks, name: str) -> None:
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        checks.warn("Hostname", f"hostname {quoted(name)} could not be reached")
        checks.warn("Hostname", f"hostname {quoted(name)}: lookup {name}: no such host")


def _kubelet(checks: Checks) -> None:
    if not shutil.which("kubelet"):
        checks.error(
            "KubeletVersion", "couldn't get kubelet version: cannot execute 'kubelet --version': executable file not found in $PATH"
        )
        return
    shown = subprocess.run(["kubelet", "--version"], capture_output=True, text=True, check=False).stdout
    version = shown.split()[-1] if shown.split() else ""
    mine = release.numbers(release.VERSION)
    if version and release.numbers(version)[:2] > mine[:2]:
        checks.error(
            "KubeletVersion",
            f"the kubelet version is higher than the control plane version. This is not a supported version skew and may lead to a malfunctional cluster. Kubelet version: {version}",
        )


def _images(checks: Checks, cluster: dict) -> None:
    """The lab pretends to hold the images of its own releases; a registry it has not."""
    if cluster["kubernetesVersion"] in release.RELEASES and cluster["imageRepository"] == "registry.k8s.io":
        return
    for name, image in manifests.images(cluster).items():
        if name in manifests.COMPONENTS:
            registry = image.split("/")[0]
            reason = f"failed to pull and unpack image {quoted(image)}: failed to resolve reference {quoted(image)}: failed to do request: dial tcp: lookup {registry}: no registry in the lab ({release.NOTICE})"
            logged = fatal(Exception(f"pulling image: {reason}"))
            checks.error("ImagePull", f"failed to pull image {image}: output: {logged}\n, error: exit status 1")
