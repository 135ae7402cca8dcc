"""Kubeconfig files: written as kubeadm and the kubelet write them, read by every client."""

import base64
import pathlib

from standin import paths, words

# file name: (user, group) of the certificate inside; {node} is the node's name.
USERS = {
    "admin.conf": ("kubernetes-admin", "system:masters"),
    "kubelet.conf": ("system:node:{node}", "system:nodes"),
    "controller-manager.conf": ("system:kube-controller-manager", None),
    "scheduler.conf": ("system:kube-scheduler", None),
}


def data(content: bytes) -> str:
    return base64.b64encode(content).decode()


def document(cluster: str, server: str, ca: bytes, user: str, credentials: dict, context: str | None = None) -> str:
    context = context or f"{user}@{cluster}"
    return words.dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"certificate-authority-data": data(ca), "server": server}}],
            "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
            "current-context": context,
            "preferences": {},
            "users": [{"name": user, "user": credentials}],
        }
    )


def with_certificate(cluster: str, server: str, ca, user: str, group: str | None) -> str:
    from standin import pki  # Here and not above: kubectl starts twice as fast without the library behind it.

    pair = pki.issue(ca, user, group, [pki.CLIENT])
    credentials = {"client-certificate-data": data(pair.pem()), "client-key-data": data(pair.key_pem())}
    return document(cluster, server, ca.pem(), user, credentials)


def with_token(server: str, ca: bytes, token: str) -> str:
    """bootstrap-kubelet.conf."""
    return document("kubernetes", server, ca, "tls-bootstrap-token-user", {"token": token})


def cluster_info(server: str, ca: bytes) -> str:
    """What cluster-info holds: a cluster and no user."""
    return words.dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "", "cluster": {"certificate-authority-data": data(ca), "server": server}}],
            "contexts": None,
            "current-context": "",
            "preferences": {},
            "users": None,
        }
    )


def of_kubelet(server: str, ca: bytes) -> str:
    """kubelet.conf after the TLS bootstrap."""
    current = str(paths.KUBELET / "pki/kubelet-client-current.pem")
    cluster = {"certificate-authority-data": data(ca), "server": server}
    context = {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"}
    return words.dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default-cluster", "cluster": cluster}],
            "contexts": [{"name": "default-context", "context": context}],
            "current-context": "default-context",
            "preferences": {},
            "users": [{"name": "default-auth", "user": {"client-certificate": current, "client-key": current}}],
        }
    )


class Access:
    """Server, CA and credentials of a kubeconfig's current context."""

    def __init__(self, text: str):
        content = words.load(text) or {}
        context = _named(content, "contexts", content.get("current-context")).get("context", {})
        cluster = _named(content, "clusters", context.get("cluster")).get("cluster", {})
        if not cluster and content.get("clusters"):
            cluster = content["clusters"][0]["cluster"]
        user = _named(content, "users", context.get("user")).get("user", {})
        self.cluster_name = context.get("cluster") or ""
        self.user_name = context.get("user") or ""
        self.server = (cluster.get("server") or "").rstrip("/")
        self.ca = _content(cluster, "certificate-authority")
        self.certificate = _content(user, "client-certificate")
        self.key = _content(user, "client-key")
        self.token = user.get("token")


def read(path: pathlib.Path) -> Access:
    return Access(path.read_text())


def _named(content: dict, section: str, name: str | None) -> dict:
    return next((each for each in content.get(section) or [] if each.get("name") == name), {})


def _content(section: dict, name: str) -> bytes | None:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"])
    return pathlib.Path(section[name]).read_bytes() if section.get(name) else None
