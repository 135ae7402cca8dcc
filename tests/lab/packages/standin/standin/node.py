"""A node's side of the kubelet: directories, certificate, Node object, lease, and the pods said to run on it."""

import base64
import datetime
import http.server
import json
import os
import pathlib
import platform
import threading
import time

from standin import apiserver, client, configuration, cri, kubeconfig, paths, pki, release, words

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
HEALTHY = [
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
]
NEW = "CSINode is not yet initialized"
CNI = "/etc/cni/net.d"
CNI_FILES = {"flannel": "10-flannel.conflist", "calico": "10-calico.conflist", "cilium": "05-cilium.conflist"}


def hostname() -> str:
    return os.uname().nodename.strip().lower()


def prepare_directories(name: str) -> None:
    paths.directory(paths.KUBELET, 0o700)
    for folder, mode in (
        ("device-plugins", 0o755),
        ("pki", 0o755),
        ("plugins", 0o750),
        ("plugins_registry", 0o750),
        ("pod-resources", 0o750),
        ("pods", 0o750),
    ):
        paths.directory(paths.KUBELET / folder, mode)
    for file, content in (
        ("cpu_manager_state", '{"policyName":"none","defaultCpuSet":"","checksum":1353318690}'),
        ("memory_manager_state", '{"policyName":"None","machineState":{},"entries":{},"checksum":4047769594}'),
    ):
        paths.write(paths.KUBELET / file, content)
    if not pki.exists(paths.KUBELET / "pki/kubelet"):
        pki.self_signed(f"{name}@{int(time.time())}", [name]).write(paths.KUBELET / "pki/kubelet")


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments) -> None:
        pass


def serve_health(address: str, port: int) -> None:
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer((address, port), _Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()


_taken = []


def take_port(port: int) -> None:
    _taken.append(apiserver.listen("0.0.0.0", port))


# --- the client certificate


def bootstrap(api: client.Api, name: str, access: kubeconfig.Access) -> None:
    """Has a certificate signed and writes kubelet.conf, which uses it."""
    request, key = pki.request(f"system:node:{name}", "system:nodes")
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["digital signature", "client auth"],
    }
    asked = api.create(REQUESTS, {"metadata": {"generateName": "csr-"}, "spec": spec})["metadata"]["name"]
    while True:
        status = api.get(f"{REQUESTS}/{asked}").get("status") or {}
        if status.get("certificate"):
            break
        time.sleep(0.2)
    _store(base64.b64decode(status["certificate"]) + key)
    paths.write(paths.KUBELET_CONF, kubeconfig.of_kubelet(access.server, access.ca))


def keep_certificate(access: kubeconfig.Access) -> None:
    """A control plane's kubelet.conf holds its certificate at first; from then on it is a file."""
    current = paths.KUBELET / "pki/kubelet-client-current.pem"
    if not current.exists() and access.certificate and access.key:
        _store(access.certificate + access.key)


def _store(content: bytes) -> None:
    made = paths.KUBELET / f"pki/kubelet-client-{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d-%H-%M-%S}.pem"
    paths.write(made, content)
    current = made.with_name("kubelet-client-current.pem")
    current.unlink(missing_ok=True)
    current.symlink_to(made)


# --- the Node object


def register(api: client.Api, name: str, flags: dict, config: dict, endpoint: str) -> bool:
    """Creates the object, or takes over the one that is there (cordon, labels and taints stay); whether it is new."""
    labels = {
        "beta.kubernetes.io/arch": _arch(),
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": _arch(),
        "kubernetes.io/hostname": hostname() if not flags.get("hostname-override") else name,
        "kubernetes.io/os": "linux",
        **dict(part.split("=", 1) for part in flags.get("node-labels", "").split(",") if "=" in part),
    }
    annotations = {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    body = {"metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": {}}
    taints = [_taint(part) for part in flags.get("register-with-taints", "").split(",") if part]
    taints += config.get("registerWithTaints") or []
    if taints:
        body["spec"]["taints"] = taints
    words.warning("kubelet_node_status.go:70", f'"Attempting to register node" node="{name}"', "I")
    new = True
    try:
        api.create("/api/v1/nodes", body)
    except client.Refused as refusal:
        if refusal.reason != "AlreadyExists":
            raise
        new = False
        api.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels, "annotations": annotations}})
    words.warning("kubelet_node_status.go:73", f'"Successfully registered node" node="{name}"', "I")
    return new


def _taint(text: str) -> dict:
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def is_there(api: client.Api, name: str) -> bool:
    return api.find(f"/api/v1/nodes/{name}") is not None


def conditions(runtime: cri.Runtime, new: bool = False) -> list[dict]:
    """Ready is what the runtime says of itself and its network; a `new` node is not, whatever they say."""
    now = words.now()
    made = [{"type": kind, "status": "False", "reason": reason, "message": text} for kind, reason, text in HEALTHY]
    problem = _problem(runtime)
    if new:
        problem = f"[{problem}, {NEW}]" if problem else NEW
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    if problem:
        ready |= {"status": "False", "reason": "KubeletNotReady", "message": problem}
    return [{"lastHeartbeatTime": now, **each} for each in (*made, ready)]


def _problem(runtime: cri.Runtime) -> str | None:
    try:
        states = runtime.conditions()
    except cri.NotRunning as problem:
        return f"[container runtime is down, {problem}]"
    for kind, (good, reason, text) in states.items():
        if not good:
            what = "container runtime network not ready" if kind == "NetworkReady" else "container runtime is down"
            return f"{what}: {kind}=false reason:{reason} message:{text}"
    return None


def report(api: client.Api, name: str, made: list[dict], runtime: cri.Runtime, flags: dict) -> None:
    current = api.get(f"/api/v1/nodes/{name}")
    before = {each["type"]: each for each in (current.get("status") or {}).get("conditions", [])}
    for each in made:
        known = before.get(each["type"])
        same = known is not None and known["status"] == each["status"]
        each["lastTransitionTime"] = known["lastTransitionTime"] if same else words.now()
    address = flags.get("node-ip") or configuration.default_address()
    capacity = {"cpu": str(os.cpu_count()), "memory": f"{_memory() // 1024}Ki", "pods": "110", "hugepages-1Gi": "0", "hugepages-2Mi": "0"}
    status = {
        "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
        "capacity": capacity,
        "allocatable": {**capacity, "memory": f"{_memory() // 1024 - 102400}Ki"},
        "conditions": made,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": _info(runtime),
    }
    api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, client.STRATEGIC)


def _info(runtime: cri.Runtime) -> dict:
    try:
        kind, version = runtime.version()
    except cri.NotRunning:
        kind, version = "containerd", "Unknown"
    released = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "architecture": _arch(),
        "bootID": _read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": f"{kind}://{version.split('~')[0]}",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": release.VERSION,
        "kubeletVersion": release.VERSION,
        "machineID": _read("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": released.get("PRETTY_NAME", "").strip('"'),
        "systemUUID": _read("/sys/class/dmi/id/product_uuid") or _read("/etc/machine-id"),
    }


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return ""


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def renew_lease(api: client.Api, name: str) -> None:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = {"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}}
    api.ensure(LEASES, body)


# --- pods


def run_pods(api: client.Api, name: str, ready: bool) -> None:
    """Says of every pod bound to this node that it runs; those with a network of their own need a ready node."""
    for pod in api.items(f"/api/v1/pods?fieldSelector=spec.nodeName={name}"):
        if (pod.get("status") or {}).get("phase") == "Running":
            continue
        on_host = pod["spec"].get("hostNetwork")
        if not on_host and not ready:
            continue
        address = configuration.default_address() if on_host else _pod_address(api, name, pod)
        metadata = pod["metadata"]
        if any((volume.get("hostPath") or {}).get("path", "").startswith(CNI) for volume in pod["spec"].get("volumes") or []):
            install_network(api, name, metadata["name"])
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        api.patch(path, {"status": running(pod, address)})


def install_network(api: client.Api, name: str, pod: str) -> None:
    """What the pods of a network plugin do on their nodes: a configuration that makes the runtime's network ready."""
    file = next((file for plugin, file in CNI_FILES.items() if plugin in pod), "10-standin.conflist")
    subnet = api.get(f"/api/v1/nodes/{name}")["spec"].get("podCIDR", "10.244.0.0/24")
    ranges = {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ranges}
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    content = {"cniVersion": "0.4.0", "name": "standin", "plugins": plugins}
    paths.write(paths.ROOT / CNI.lstrip("/") / file, json.dumps(content, indent=2) + "\n", 0o644)


def running(pod: dict, address: str) -> dict:
    containers = pod["spec"].get("containers", [])
    state = {"running": {"startedAt": words.now()}}
    statuses = [
        {"name": each["name"], "image": each.get("image", ""), "ready": True, "restartCount": 0, "state": state} for each in containers
    ]
    kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": words.now()} for kind in kinds]
    return {
        "phase": "Running",
        "podIP": address,
        "hostIP": configuration.default_address(),
        "startTime": words.now(),
        "conditions": conditions,
        "containerStatuses": statuses,
    }


def _pod_address(api: client.Api, name: str, pod: dict) -> str:
    subnet = api.get(f"/api/v1/nodes/{name}")["spec"].get("podCIDR", "10.244.0.0/24")
    last = 2 + sum(pod["metadata"]["uid"].encode()) % 250
    return subnet.rsplit(".", 1)[0] + f".{last}"
