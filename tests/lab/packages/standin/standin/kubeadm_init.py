"""`kubeadm init`: the phases of making a control plane, in order, each leaving what the real one leaves."""

import argparse
import ipaddress
import os
import pathlib
import secrets
import shutil
import subprocess
import time

from standin import addons, client, configuration, kubeconfig, manifests, paths, pki, preflight, tokens, waiting, words
from standin.words import Failure, Lacking, out

SKIPPABLE = {
    "preflight",
    "upload-certs",
    "mark-control-plane",
    "bootstrap-token",
    "addon",
    "addon/coredns",
    "addon/kube-proxy",
    "show-join-command",
}
SANS = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]


class Plan:
    """Configuration of one run: the file's or the flags', with defaults, validated."""

    def __init__(self, options: argparse.Namespace):
        documents = configuration.read(options.config) if options.config else _from_flags(options)
        if "JoinConfiguration" in documents:
            raise Failure("no InitConfiguration or ClusterConfiguration kind was found in the YAML file")
        self.options = options
        self.cluster = configuration.cluster(documents.get("ClusterConfiguration"))
        self.init = configuration.init(documents.get("InitConfiguration"))
        configuration.validate_init(self.init, self.cluster)
        if "external" in self.cluster["etcd"]:
            raise Lacking("an external etcd")
        if self.cluster["certificatesDir"] != "/etc/kubernetes/pki":
            raise Lacking("another certificatesDir")
        self.kubelet = configuration.kubelet(documents.get("KubeletConfiguration"), self.cluster["networking"])
        self.kube_proxy = documents.get("KubeProxyConfiguration") or {}
        self.node = self.init["nodeRegistration"]["name"]
        self.address = self.init["localAPIEndpoint"]["advertiseAddress"]
        self.port = self.init["localAPIEndpoint"]["bindPort"]
        skipped = [*options.skip_phases, *(self.init.get("skipPhases") or [])]
        self.skipped = set(skipped)
        if self.skipped - SKIPPABLE:
            raise Lacking(f"skipping the phase {sorted(self.skipped - SKIPPABLE)[0]}")
        if self.init.get("patches"):
            raise Lacking("patches")

    @property
    def endpoint(self) -> str:
        """host:port that everybody reaches the API server by."""
        given = self.cluster.get("controlPlaneEndpoint")
        if not given:
            return f"{self.address}:{self.port}"
        return given if given.rpartition(":")[0] else f"{given}:{self.port}"

    @property
    def server(self) -> str:
        return f"https://{self.endpoint}"

    @property
    def pki(self) -> pathlib.Path:
        return pathlib.Path(self.options.cert_dir) if self.options.cert_dir else paths.PKI

    def api(self) -> client.Api:
        return client.Api(kubeconfig.read(paths.ADMIN))


def _from_flags(options: argparse.Namespace) -> dict:
    networking = {"podSubnet": options.pod_network_cidr, "serviceSubnet": options.service_cidr, "dnsDomain": options.service_dns_domain}
    cluster = {
        "kubernetesVersion": options.kubernetes_version,
        "controlPlaneEndpoint": options.control_plane_endpoint,
        "imageRepository": options.image_repository,
        "networking": {name: value for name, value in networking.items() if value},
    }
    if options.apiserver_cert_extra_sans:
        cluster["apiServer"] = {"certSANs": options.apiserver_cert_extra_sans}
    endpoint = {"advertiseAddress": options.apiserver_advertise_address, "bindPort": options.apiserver_bind_port}
    registration = {"name": options.node_name, "criSocket": options.cri_socket}
    init = {
        "localAPIEndpoint": {name: value for name, value in endpoint.items() if value},
        "nodeRegistration": {name: value for name, value in registration.items() if value},
        "certificateKey": options.certificate_key,
    }
    if options.token:
        init["bootstrapTokens"] = [{"token": options.token, "ttl": options.token_ttl or tokens.DEFAULT_TTL}]
    documents = {"ClusterConfiguration": cluster, "InitConfiguration": init}
    return {kind: {name: value for name, value in given.items() if value} for kind, given in documents.items()}


def init(options: argparse.Namespace) -> None:
    plan = Plan(options)
    if options.dry_run:
        raise Lacking("init --dry-run (init phase preflight does no harm either)")
    out(f"[init] Using Kubernetes version: {plan.cluster['kubernetesVersion']}")
    if "preflight" not in plan.skipped:
        phase("preflight", preflight.before_init, plan.init, plan.cluster, options.ignore_preflight_errors)
    certs(plan)
    kubeconfigs(plan)
    etcd(plan)
    control_plane(plan)
    start_kubelet(plan)
    phase("wait-control-plane", wait, plan)
    upload_config(plan)
    key = upload_certs(plan, options.upload_certs)
    mark(plan)
    bootstrap_token(plan)
    finalize(plan)
    if "addon" not in plan.skipped:
        addons.apply(plan.api(), plan.cluster, plan.kube_proxy, plan.skipped)
    if "show-join-command" not in plan.skipped:
        congratulate(plan, key)


def phase(name: str, work, *arguments):
    """Runs a phase; its failure says which one it was."""
    try:
        return work(*arguments)
    except Failure as failure:
        raise Failure(f"error execution phase {name}: {failure}", failure.code) from failure
    except (client.Unreachable, client.Refused) as problem:
        raise Failure(f"error execution phase {name}: {problem}") from problem


# --- certificates and kubeconfigs


def certs(plan: Plan) -> None:
    folder = plan.pki
    if not (folder / "ca.crt").exists():
        pki.prepare_keys(15)
    out(f'[certs] Using certificateDir folder "{plan.options.cert_dir or plan.cluster["certificatesDir"]}"')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "etcd").mkdir(exist_ok=True)
    ca = _authority(folder, "ca", "kubernetes")
    extra = plan.cluster["apiServer"].get("certSANs") or []
    host = plan.endpoint.rpartition(":")[0]
    first = str(next(ipaddress.ip_network(plan.cluster["networking"]["serviceSubnet"].split(",")[0], strict=False).hosts()))
    names = [plan.node, *SANS, f"kubernetes.default.svc.{plan.cluster['networking']['dnsDomain']}", first, plan.address, host, *extra]
    _leaf(folder, "apiserver", ca, "kube-apiserver", None, [pki.SERVER], names)
    _leaf(folder, "apiserver-kubelet-client", ca, "kube-apiserver-kubelet-client", "system:masters", [pki.CLIENT])
    proxy = _authority(folder, "front-proxy-ca", "front-proxy-ca")
    _leaf(folder, "front-proxy-client", proxy, "front-proxy-client", None, [pki.CLIENT])
    store = _authority(folder, "etcd/ca", "etcd-ca")
    local = [plan.node, "localhost", plan.address, "127.0.0.1", "::1"]
    for name in ("etcd/server", "etcd/peer"):
        _leaf(folder, name, store, plan.node, None, [pki.SERVER, pki.CLIENT], local)
    _leaf(folder, "etcd/healthcheck-client", store, "kube-etcd-healthcheck-client", "system:masters", [pki.CLIENT])
    _leaf(folder, "apiserver-etcd-client", store, "kube-apiserver-etcd-client", "system:masters", [pki.CLIENT])
    if (folder / "sa.key").exists():
        out('[certs] Using the existing "sa" key')
    else:
        out('[certs] Generating "sa" key and public key')
        key = pki.new_key()
        paths.write(folder / "sa.key", pki.key_pem(key))
        paths.write(folder / "sa.pub", pki.public_pem(key))


def _authority(folder: pathlib.Path, name: str, subject: str) -> pki.Pair:
    if pki.exists(folder / name):
        out(f"[certs] Using existing {name} certificate authority")
        return pki.load(folder / name)
    if (folder / f"{name}.crt").exists():
        raise Lacking("an external CA")
    out(f'[certs] Generating "{name}" certificate and key')
    made = pki.authority(subject)
    made.write(folder / name)
    return made


def _leaf(folder: pathlib.Path, name: str, ca: pki.Pair, subject: str, group: str | None, usages: list, names: list[str] = ()) -> None:
    if pki.exists(folder / name):
        out(f"[certs] Using existing {name} certificate and key on disk")
        return
    out(f'[certs] Generating "{name}" certificate and key')
    if names:
        addresses = [each for each in dict.fromkeys(names) if configuration.is_address(each)]
        domains = sorted(each for each in dict.fromkeys(names) if each not in addresses)
        out(f"[certs] {name} serving cert is signed for DNS names [{' '.join(domains)}] and IPs [{' '.join(addresses)}]")
        names = [*domains, *addresses]
    pki.issue(ca, subject, group, usages, names).write(folder / name)


def kubeconfigs(plan: Plan) -> None:
    folder = pathlib.Path(getattr(plan.options, "kubeconfig_dir", None) or paths.KUBERNETES)
    out(f'[kubeconfig] Using kubeconfig folder "{folder}"')
    folder.mkdir(parents=True, exist_ok=True)
    ca = pki.load(plan.pki / "ca")
    for name, (user, group) in kubeconfig.USERS.items():
        user = user.format(node=plan.node)
        if (folder / name).exists():
            out(f'[kubeconfig] Using existing kubeconfig file: "{folder / name}"')
            continue
        out(f'[kubeconfig] Writing "{name}" kubeconfig file')
        paths.write(folder / name, kubeconfig.with_certificate(plan.cluster["clusterName"], plan.server, ca, user, group))


# --- static pods and the kubelet


def etcd(plan: Plan) -> None:
    out(f'[etcd] Creating static Pod manifest for local etcd in "{paths.MANIFESTS}"')
    folder = paths.ROOT / plan.cluster["etcd"]["local"]["dataDir"].lstrip("/")
    paths.directory(folder, 0o700)
    folder.chmod(0o700)
    _manifest(plan, "etcd")


def control_plane(plan: Plan) -> None:
    out(f'[control-plane] Using manifest folder "{paths.MANIFESTS}"')
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        out(f'[control-plane] Creating static Pod manifest for "{name}"')
        _manifest(plan, name)


def _manifest(plan: Plan, name: str) -> None:
    server = dict(plan.cluster["apiServer"])
    cluster = {**plan.cluster, "apiServer": server}
    manifests.save(name, manifests.write(cluster, plan.address, plan.port, plan.node)[name])


def start_kubelet(plan: Plan) -> None:
    registration = plan.init["nodeRegistration"]
    write_kubelet(registration, plan.kubelet, plan.cluster, environment_first=True)
    out("[kubelet-start] Starting the kubelet")
    restart_kubelet()


def write_kubelet(registration: dict, kubelet: dict, cluster: dict, environment_first: bool) -> None:
    """init writes the flags first, join the configuration."""
    paths.directory(paths.KUBELET, 0o700)

    def environment() -> None:
        out(f'[kubelet-start] Writing kubelet environment file with flags to file "{paths.KUBELET_FLAGS}"')
        paths.write(paths.KUBELET_FLAGS, kubelet_flags(registration, cluster), 0o644)

    def settings() -> None:
        out(f'[kubelet-start] Writing kubelet configuration to file "{paths.KUBELET_CONFIG}"')
        paths.write(paths.KUBELET_CONFIG, words.dump(kubelet), 0o644)

    for step in (environment, settings) if environment_first else (settings, environment):
        step()


def kubelet_flags(registration: dict, cluster: dict) -> str:
    flags = {
        "container-runtime-endpoint": registration["criSocket"],
        "pod-infra-container-image": manifests.images(cluster)["pause"],
    }
    if registration["name"] != os.uname().nodename.lower():
        flags["hostname-override"] = registration["name"]
    if registration.get("taints") and not any(taint["key"] == configuration.TAINT["key"] for taint in registration["taints"]):
        flags["register-with-taints"] = ",".join(
            f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in registration["taints"]
        )
    flags |= registration.get("kubeletExtraArgs") or {}
    return f'KUBELET_KUBEADM_ARGS="{" ".join(f"--{name}={value}" for name, value in sorted(flags.items()))}"\n'


def restart_kubelet() -> None:
    if not shutil.which("systemctl"):
        words.out("[kubelet-start] no supported init system detected, won't make sure the kubelet is running properly.")
        return
    for arguments in (["daemon-reload"], ["restart", "kubelet"]):
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            words.out(f"[kubelet-start] WARNING: unable to start the kubelet service: [{done.stderr.strip()}]")


def wait(plan: Plan) -> None:
    timeout = words.seconds(plan.cluster["apiServer"]["timeoutForControlPlane"])
    spelled = plan.cluster["apiServer"]["timeoutForControlPlane"]
    where = f'directory "{paths.MANIFESTS}". This can take up to {spelled}'
    out(f"[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from {where}")
    begun = time.monotonic()
    api = client.Api(kubeconfig.read(paths.ADMIN), timeout=5)
    if not waiting.until(lambda: waiting.healthy(api), timeout):
        waiting.explain_failure(plan.init["nodeRegistration"]["criSocket"])
        raise Failure("couldn't initialize a Kubernetes cluster")
    out(f"[apiclient] All control plane components are healthy after {time.monotonic() - begun:.6f} seconds")


# --- what goes into the cluster


def upload_config(plan: Plan) -> None:
    out('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the "kube-system" Namespace')
    cluster = {**plan.cluster}
    server = {**cluster["apiServer"]}
    server["extraArgs"] = {"authorization-mode": "Node,RBAC", **(server.get("extraArgs") or {})}
    cluster["apiServer"] = server
    api = plan.api()
    phase("upload-config/kubeadm", _config_map, api, "kubeadm-config", {"ClusterConfiguration": words.dump(cluster)})
    out('[kubelet] Creating a ConfigMap "kubelet-config" in namespace kube-system with the configuration for the kubelets in the cluster')
    phase("upload-config/kubelet", _config_map, api, "kubelet-config", {"kubelet": words.dump(plan.kubelet)})
    node_socket = {"metadata": {"annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": plan.init["nodeRegistration"]["criSocket"]}}}
    phase("upload-config/kubelet", waiting.patch_node, api, plan.node, node_socket)


def _config_map(api: client.Api, name: str, data: dict, namespace: str = "kube-system") -> None:
    body = {"metadata": {"name": name, "namespace": namespace}, "data": data}
    api.ensure(f"/api/v1/namespaces/{namespace}/configmaps", body)


def upload_certs(plan: Plan, wanted: bool) -> str | None:
    """Stores the shared certificates as far as their existence and lifetime go: joining control planes is lacking."""
    if "upload-certs" in plan.skipped:
        return None
    if not wanted:
        out("[upload-certs] Skipping phase. Please see --upload-certs")
        return None
    out('[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace')
    key = plan.init.get("certificateKey") or secrets.token_hex(32)
    api, namespace = plan.api(), "/api/v1/namespaces/kube-system/secrets"
    token = tokens.secret(tokens.generate(), 7200, "Proxy for managing TTL for the kubeadm-certs secret", [], [])
    owner = api.create(namespace, token)["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "Secret",
        "name": owner["name"],
        "uid": owner["uid"],
        "blockOwnerDeletion": True,
        "controller": True,
    }
    names = ("ca.crt", "ca.key", "etcd-ca.crt", "etcd-ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub")
    body = {
        "metadata": {"name": "kubeadm-certs", "namespace": "kube-system", "ownerReferences": [reference]},
        "type": "Opaque",
        "data": dict.fromkeys(names, ""),
    }
    api.ensure(namespace, body)
    out("[upload-certs] Using certificate key:")
    out(key)
    return key


def mark(plan: Plan) -> None:
    if "mark-control-plane" in plan.skipped:
        return
    role, excluded = "node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"
    out(f"[mark-control-plane] Marking the node {plan.node} as control-plane by adding the labels: [{role} {excluded}]")
    taints = plan.init["nodeRegistration"].get("taints") or []
    if taints:
        shown = " ".join(f"{taint['key']}:{taint['effect']}" for taint in taints)
        out(f"[mark-control-plane] Marking the node {plan.node} as control-plane by adding the taints [{shown}]")
    body = {"metadata": {"labels": {role: "", excluded: ""}}, **({"spec": {"taints": taints}} if taints else {})}
    phase("mark-control-plane", waiting.patch_node, plan.api(), plan.node, body)


def bootstrap_token(plan: Plan) -> None:
    if "bootstrap-token" in plan.skipped:
        return
    api = plan.api()
    for token in plan.init["bootstrapTokens"] if not plan.options.skip_token_print else ():
        out(f"[bootstrap-token] Using token: {token['token']}")
    out("[bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles")
    for token in plan.init["bootstrapTokens"]:
        ttl = words.seconds(token.get("ttl", tokens.DEFAULT_TTL))
        secret = tokens.secret(token["token"], ttl, token.get("description", ""), token["usages"], token["groups"])
        phase("bootstrap-token", api.ensure, "/api/v1/namespaces/kube-system/secrets", secret)
    for line in (
        "Configured RBAC rules to allow Node Bootstrap tokens to get nodes",
        "Configured RBAC rules to allow Node Bootstrap tokens to post CSRs in order for nodes to get long term certificate credentials",
        "Configured RBAC rules to allow the csrapprover controller automatically approve CSRs from a Node Bootstrap Token",
        "Configured RBAC rules to allow certificate rotation for all node client certificates in the cluster",
    ):
        out(f"[bootstrap-token] {line}")
    out('[bootstrap-token] Creating the "cluster-info" ConfigMap in the "kube-public" namespace')
    info = kubeconfig.cluster_info(plan.server, (paths.PKI / "ca.crt").read_bytes())
    phase("bootstrap-token", _config_map, api, "cluster-info", {"kubeconfig": info}, "kube-public")


def finalize(plan: Plan) -> None:
    text = f'Updating "{paths.KUBELET_CONF}" to point to a rotatable kubelet client certificate and key'
    out(f"[kubelet-finalize] {text}")
    current = str(paths.KUBELET / "pki/kubelet-client-current.pem")
    document = words.load(paths.KUBELET_CONF.read_text())
    document["users"][0]["user"] = {"client-certificate": current, "client-key": current}
    paths.write(paths.KUBELET_CONF, words.dump(document))
    restart_kubelet()


def congratulate(plan: Plan, key: str | None) -> None:
    pin = pki.spki_hash(pki.load(paths.PKI / "ca").certificate)
    token = "<value withheld>" if plan.options.skip_token_print else plan.init["bootstrapTokens"][0]["token"]
    command = f"kubeadm join {plan.endpoint} --token {token} \\\n\t--discovery-token-ca-cert-hash {pin} "
    out(CONGRATULATIONS)
    if key and plan.cluster.get("controlPlaneEndpoint"):
        out(CONTROL_PLANES.format(command=command, key=key))
    out(f"Then you can join any number of worker nodes by running the following on each as root:\n\n{command}")


CONGRATULATIONS = """
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

Alternatively, if you are the root user, you can run:

  export KUBECONFIG=/etc/kubernetes/admin.conf

You should now deploy a pod network to the cluster.
Run "kubectl apply -f [podnetwork].yaml" with one of the options listed at:
  https://kubernetes.io/docs/concepts/cluster-administration/addons/
"""
CONTROL_PLANES = """\
You can now join any number of the control-plane node running the following command on each as root:

  {command}\\
\t--control-plane --certificate-key {key}

Please note that the certificate-key gives access to cluster sensitive data, keep it secret!
As a safeguard, uploaded-certs will be deleted in two hours; If necessary, you can use
"kubeadm init phase upload-certs --upload-certs" to reload certs afterward.
"""


# --- single phases


def _single(work):
    return lambda options: work(Plan(options))


def _preflight(plan: Plan) -> None:
    phase("preflight", preflight.before_init, plan.init, plan.cluster, plan.options.ignore_preflight_errors, plan.options.dry_run)


PHASES = {
    "preflight": _single(_preflight),
    "certs": _single(certs),
    "kubeconfig": _single(kubeconfigs),
    "upload-certs": _single(lambda plan: upload_certs(plan, plan.options.upload_certs)),
    "mark-control-plane": _single(mark),
    "bootstrap-token": _single(bootstrap_token),
    "upload-config": _single(upload_config),
}
