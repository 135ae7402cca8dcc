"""Static pod manifests of a control plane, as kubeadm writes them."""

from standin import paths, release, words

PKI = "/etc/kubernetes/pki"
LIVEZ = {"failureThreshold": 8, "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 15}
STARTUP = {**LIVEZ, "failureThreshold": 24}
SHARED_CERTIFICATES = [
    ("ca-certs", "/etc/ssl/certs"),
    ("etc-ca-certificates", "/etc/ca-certificates"),
    ("k8s-certs", PKI),
    ("usr-local-share-ca-certificates", "/usr/local/share/ca-certificates"),
    ("usr-share-ca-certificates", "/usr/share/ca-certificates"),
]
FLEXVOLUMES = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec"


def images(cluster: dict) -> dict[str, str]:
    """Image of every component, in the order `config images list` prints them."""
    repository, version = cluster["imageRepository"], cluster["kubernetesVersion"]
    made = {name: f"{repository}/{name}:{version}" for name in COMPONENTS}
    made["pause"] = f"{repository}/pause:{release.PAUSE_TAG}"
    local = cluster["etcd"].get("local", {})
    tag = local.get("imageTag") or release.ETCD_TAGS.get(version, "3.5.10-0")
    made["etcd"] = f"{local.get('imageRepository') or repository}/etcd:{tag}"
    dns = cluster.get("dns") or {}
    default = f"{repository}/coredns" if repository == "registry.k8s.io" else repository
    made["coredns"] = f"{dns.get('imageRepository') or default}/coredns:{dns.get('imageTag') or release.COREDNS_TAG}"
    return made


COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


def write(cluster: dict, address: str, port: int, node: str) -> dict[str, dict]:
    """The four manifests by component name."""
    picked = images(cluster)
    return {
        "etcd": etcd(cluster, address, node, picked["etcd"]),
        "kube-apiserver": apiserver(cluster, address, port, picked["kube-apiserver"]),
        "kube-controller-manager": controller_manager(cluster, picked["kube-controller-manager"]),
        "kube-scheduler": scheduler(cluster, picked["kube-scheduler"]),
    }


def save(name: str, pod: dict) -> None:
    paths.directory(paths.MANIFESTS, 0o700)
    paths.write(paths.MANIFESTS / f"{name}.yaml", words.dump(pod), 0o600)


def etcd(cluster: dict, address: str, node: str, image: str) -> dict:
    local = cluster["etcd"]["local"]
    client, peer = f"https://{address}:2379", f"https://{address}:2380"
    arguments = {
        "advertise-client-urls": client,
        "cert-file": f"{PKI}/etcd/server.crt",
        "client-cert-auth": "true",
        "data-dir": local["dataDir"],
        "experimental-initial-corrupt-check": "true",
        "experimental-watch-progress-notify-interval": "5s",
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{node}={peer}",
        "key-file": f"{PKI}/etcd/server.key",
        "listen-client-urls": f"https://127.0.0.1:2379,{client}",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "listen-peer-urls": peer,
        "name": node,
        "peer-cert-file": f"{PKI}/etcd/peer.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": f"{PKI}/etcd/peer.key",
        "peer-trusted-ca-file": f"{PKI}/etcd/ca.crt",
        "snapshot-count": "10000",
        "trusted-ca-file": f"{PKI}/etcd/ca.crt",
        **(local.get("extraArgs") or {}),
    }
    health = lambda path: {"host": "127.0.0.1", "path": path, "port": 2381, "scheme": "HTTP"}
    probes = {
        "livenessProbe": {**LIVEZ, "httpGet": health("/health?exclude=NOSPACE&serializable=true")},
        "startupProbe": {**STARTUP, "httpGet": health("/health?serializable=false")},
    }
    volumes = [("etcd-data", local["dataDir"], False), ("etcd-certs", f"{PKI}/etcd", False)]
    annotations = {"kubeadm.kubernetes.io/etcd.advertise-client-urls": client}
    return _pod("etcd", arguments, image, {"cpu": "100m", "memory": "100Mi"}, probes, volumes, annotations)


def apiserver(cluster: dict, address: str, port: int, image: str) -> dict:
    kubelet, proxy = f"{PKI}/apiserver-kubelet-client", f"{PKI}/front-proxy-client"
    arguments = {
        "advertise-address": address,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": f"{PKI}/ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "etcd-cafile": f"{PKI}/etcd/ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{PKI}/apiserver-etcd-client.key",
        "etcd-servers": "https://127.0.0.1:2379",
        "kubelet-client-certificate": f"{kubelet}.crt",
        "kubelet-client-key": f"{kubelet}.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": f"{proxy}.crt",
        "proxy-client-key-file": f"{proxy}.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(port),
        "service-account-issuer": f"https://kubernetes.default.svc.{cluster['networking']['dnsDomain']}",
        "service-account-key-file": f"{PKI}/sa.pub",
        "service-account-signing-key-file": f"{PKI}/sa.key",
        "service-cluster-ip-range": cluster["networking"]["serviceSubnet"],
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
        **(cluster["apiServer"].get("extraArgs") or {}),
    }
    health = lambda path: {"host": address, "path": path, "port": port, "scheme": "HTTPS"}
    probes = {
        "livenessProbe": {**LIVEZ, "httpGet": health("/livez")},
        "readinessProbe": {"failureThreshold": 3, "httpGet": health("/readyz"), "periodSeconds": 1, "timeoutSeconds": 15},
        "startupProbe": {**STARTUP, "httpGet": health("/livez")},
    }
    volumes = [(name, path, True) for name, path in SHARED_CERTIFICATES] + _extra(cluster["apiServer"])
    annotations = {"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": f"{address}:{port}"}
    return _pod("kube-apiserver", arguments, image, {"cpu": "250m"}, probes, volumes, annotations)


def controller_manager(cluster: dict, image: str) -> dict:
    config, networking = "/etc/kubernetes/controller-manager.conf", cluster["networking"]
    arguments = {
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "client-ca-file": f"{PKI}/ca.crt",
        "cluster-name": cluster["clusterName"],
        "cluster-signing-cert-file": f"{PKI}/ca.crt",
        "cluster-signing-key-file": f"{PKI}/ca.key",
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": config,
        "leader-elect": "true",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "root-ca-file": f"{PKI}/ca.crt",
        "service-account-private-key-file": f"{PKI}/sa.key",
        "use-service-account-credentials": "true",
    }
    if networking.get("podSubnet"):
        arguments |= {"allocate-node-cidrs": "true", "cluster-cidr": networking["podSubnet"]}
        arguments |= {"service-cluster-ip-range": networking["serviceSubnet"]}
    arguments |= cluster["controllerManager"].get("extraArgs") or {}
    volumes = [(name, path, True) for name, path in SHARED_CERTIFICATES]
    volumes += [("flexvolume-dir", FLEXVOLUMES, False), ("kubeconfig", config, True), *_extra(cluster["controllerManager"])]
    return _pod("kube-controller-manager", arguments, image, {"cpu": "200m"}, _local_probes(10257), volumes)


def scheduler(cluster: dict, image: str) -> dict:
    config = "/etc/kubernetes/scheduler.conf"
    arguments = {
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "kubeconfig": config,
        "leader-elect": "true",
        **(cluster["scheduler"].get("extraArgs") or {}),
    }
    volumes = [("kubeconfig", config, True), *_extra(cluster["scheduler"])]
    return _pod("kube-scheduler", arguments, image, {"cpu": "100m"}, _local_probes(10259), volumes)


def _local_probes(port: int) -> dict:
    get = {"host": "127.0.0.1", "path": "/healthz", "port": port, "scheme": "HTTPS"}
    return {"livenessProbe": {**LIVEZ, "httpGet": get}, "startupProbe": {**STARTUP, "httpGet": get}}


def _extra(component: dict) -> list[tuple[str, str, bool]]:
    return [(each["name"], each["hostPath"], each.get("readOnly", False)) for each in component.get("extraVolumes") or []]


def _pod(name: str, arguments: dict, image: str, requests: dict, probes: dict, volumes: list, annotations: dict | None = None) -> dict:
    mounts = [{"mountPath": path, "name": volume, **({"readOnly": True} if read_only else {})} for volume, path, read_only in volumes]
    # The volumes of etcd keep kubeadm's own order; those of the others are sorted by name.
    if name != "etcd":
        mounts.sort(key=lambda mount: mount["name"])
    files = {path for _, path, _ in volumes if path.endswith(".conf")}
    paths_of = sorted((volume, path) for volume, path, _ in volumes)
    metadata = {"creationTimestamp": None, "labels": {"component": name, "tier": "control-plane"}, "name": name, "namespace": "kube-system"}
    if annotations:
        metadata["annotations"] = annotations
    container = {
        "command": [name, *(f"--{key}={value}" for key, value in sorted(arguments.items()))],
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "name": name,
        "resources": {"requests": requests},
        "volumeMounts": mounts,
        **probes,
    }
    kind = lambda path: "FileOrCreate" if path in files else "DirectoryOrCreate"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priority": 2000001000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"hostPath": {"path": path, "type": kind(path)}, "name": volume} for volume, path in paths_of],
        },
        "status": {},
    }
