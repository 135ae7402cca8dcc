"""Where everything lives. STANDIN_ROOT, set by the tests, puts it all under another directory."""

import os
import pathlib

ROOT = pathlib.Path(os.environ.get("STANDIN_ROOT", "/"))

KUBERNETES = ROOT / "etc/kubernetes"
PKI = KUBERNETES / "pki"
MANIFESTS = KUBERNETES / "manifests"
ADMIN = KUBERNETES / "admin.conf"
KUBELET_CONF = KUBERNETES / "kubelet.conf"
BOOTSTRAP_CONF = KUBERNETES / "bootstrap-kubelet.conf"
TMP = KUBERNETES / "tmp"
KUBELET = ROOT / "var/lib/kubelet"
KUBELET_CONFIG = KUBELET / "config.yaml"
KUBELET_FLAGS = KUBELET / "kubeadm-flags.env"
ETCD = ROOT / "var/lib/etcd"
SEEN_TOKENS = ROOT / "var/lib/groundwork-standin/seen-tokens"

STATIC_PODS_UNIT = "standin-static-pods.service"
CONFIGURATIONS = ("admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler")


def write(path: pathlib.Path, content: str | bytes, mode: int = 0o600) -> None:
    """Writes as the real programs do: in place, so that being killed half-way shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def directory(path: pathlib.Path, mode: int = 0o700) -> None:
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
