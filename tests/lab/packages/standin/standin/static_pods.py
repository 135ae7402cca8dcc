"""Static pods: the kubelet sees the manifests, a service of its own serves what they describe.

The service outlives the kubelet, as containers do, so that restarting the kubelet does not take the API away.
It is one process for the whole control plane: the API server, and the ports of the other components.
"""

import pathlib
import shutil
import signal
import subprocess
import sys
import threading

from standin import apiserver, client, controllers, node, paths, store, words

FLAG = "--standin-static-pods"
NEEDED = ("etcd.yaml", "kube-apiserver.yaml")
_children: list[subprocess.Popen] = []


class Follower:
    """Starts the service when the manifests are there, stops it when they are gone."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.running, self.rounds = folder, _running(), 0

    def look(self) -> None:
        wanted = all((self.folder / name).exists() for name in NEEDED)
        self.rounds += 1
        # Asking systemd costs more than looking at a folder, most of all on an emulated processor.
        if wanted and self.running and self.rounds % 5 == 0:
            self.running = _running()
        if wanted and not self.running:
            _start()
        elif self.running and not wanted:
            _stop()
        self.running = wanted


def _running() -> bool:
    if _children:
        return _children[0].poll() is None
    if not shutil.which("systemctl"):
        return False
    return subprocess.run(["systemctl", "is-active", "--quiet", paths.STATIC_PODS_UNIT], check=False).returncode == 0


def _start() -> None:
    if not shutil.which("systemd-run"):
        _children[:] = [subprocess.Popen([sys.argv[0], FLAG])]
        return
    command = ["systemd-run", f"--unit={paths.STATIC_PODS_UNIT}", "--collect", "--quiet"]
    command += ["--description=Groundwork lab stand-in of a Kubernetes control plane", sys.argv[0], FLAG]
    subprocess.run(command, check=True, capture_output=True)


def _stop() -> None:
    if _children:
        _children.pop().terminate()
    else:
        subprocess.run(["systemctl", "stop", paths.STATIC_PODS_UNIT], check=False, capture_output=True)


def flags_of(component: str) -> dict[str, str]:
    """The arguments a component's manifest gives it."""
    pod = words.load((paths.MANIFESTS / f"{component}.yaml").read_text())
    command = pod["spec"]["containers"][0]["command"][1:]
    return dict(part.removeprefix("--").partition("=")[::2] for part in command)


def serve() -> None:
    """The service: until it is told to stop, or a manifest it needs cannot be read."""
    flags, data = flags_of("kube-apiserver"), pathlib.Path(flags_of("etcd")["data-dir"])
    image = words.load((paths.MANIFESTS / "kube-apiserver.yaml").read_text())["spec"]["containers"][0]["image"]
    held = [apiserver.listen("0.0.0.0", port) for port in (2379, 2380)] + [apiserver.listen("127.0.0.1", 2381)]
    for component, port in (("kube-controller-manager", 10257), ("kube-scheduler", 10259)):
        if (paths.MANIFESTS / f"{component}.yaml").exists():
            held.append(apiserver.listen("127.0.0.1", port))
    kept = store.Store(data_file(data))
    server = apiserver.Server(("", int(flags.get("secure-port", 6443))), kept, image.rpartition(":")[2])
    subnet = None
    if (paths.MANIFESTS / "kube-controller-manager.yaml").exists():
        subnet = flags_of("kube-controller-manager").get("cluster-cidr")
    controllers.Controllers(kept, subnet).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    # Leases and events are written only now and then; the data directory may be gone by now.
    if kept.file.parent.exists() and (paths.MANIFESTS / "etcd.yaml").exists():
        kept.save()


def data_file(folder: pathlib.Path) -> pathlib.Path:
    """Where etcd has its database; the log is there for its name only."""
    for part in ("member", "member/snap", "member/wal"):
        paths.directory(folder / part, 0o700)
    log = folder / "member/wal/0000000000000000-0000000000000000.wal"
    if not log.exists():
        paths.write(log, b"")
    return folder / "member/snap/db"


def mirror(api: client.Api, name: str, folder: pathlib.Path) -> None:
    """The pods of the manifests as the API shows them."""
    wanted = {}
    for manifest in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        pod = words.load(manifest.read_text())
        wanted[f"{pod['metadata']['name']}-{name}"] = pod
    found = api.items(f"/api/v1/namespaces/kube-system/pods?fieldSelector=spec.nodeName={name}")
    there = {pod["metadata"]["name"]: pod for pod in found if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})}
    for pod_name in there.keys() - wanted.keys():
        api.delete(f"/api/v1/namespaces/kube-system/pods/{pod_name}")
    for pod_name, pod in wanted.items():
        if pod_name in there and there[pod_name]["spec"]["containers"] == pod["spec"]["containers"]:
            continue
        if pod_name in there:
            api.delete(f"/api/v1/namespaces/kube-system/pods/{pod_name}")
        metadata = {
            **pod["metadata"],
            "name": pod_name,
            "annotations": {"kubernetes.io/config.mirror": "static", "kubernetes.io/config.source": "file"},
        }
        owner = [{"apiVersion": "v1", "kind": "Node", "name": name, "controller": True, "uid": "static"}]
        body = {**pod, "metadata": {**metadata, "ownerReferences": owner}, "spec": {**pod["spec"], "nodeName": name}}
        body["status"] = node.running(pod, node.configuration.default_address())
        api.create("/api/v1/namespaces/kube-system/pods", body)
