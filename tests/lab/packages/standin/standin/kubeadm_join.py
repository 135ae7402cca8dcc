"""`kubeadm join` for a worker: discovery, checks, the kubelet's configuration, and the wait for its bootstrap."""

import argparse
import hashlib
import pathlib
import time

from cryptography import x509

from standin import client, configuration, kubeadm_init, kubeconfig, paths, pki, preflight, tokens, waiting, words
from standin.words import Failure, Lacking, out, quoted

CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
JOINED = """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""


def join(options: argparse.Namespace) -> None:
    only_checks, endpoint = _positional(options.first)
    made = configuration.join(_given(options, endpoint))
    configuration.validate_join(made)
    if options.dry_run:
        raise Lacking("join --dry-run")
    skipped = {*options.skip_phases, *(made.get("skipPhases") or [])}
    if skipped - {"preflight"}:
        raise Lacking(f"skipping the phase {sorted(skipped - {'preflight'})[0]}")
    phase = kubeadm_init.phase
    if "preflight" not in skipped:
        phase("preflight", preflight.before_join, made, options.ignore_preflight_errors)
    if only_checks and made["discovery"].get("bootstrapToken", {}).get("unsafeSkipCAVerification"):
        return
    access = phase("preflight", discover, made["discovery"])
    if only_checks:
        return
    cluster = phase("preflight", _read_configuration, access, made)
    if made.get("controlPlane") is not None:
        raise Lacking("joining another control plane")
    phase("kubelet-start", _start_kubelet, access, made, cluster)
    out(JOINED)


def _positional(first: list[str]) -> tuple[bool, str | None]:
    if first[:1] == ["phase"]:
        if first[1:2] != ["preflight"]:
            raise Lacking(f"join phase {' '.join(first[1:2])}")
        return True, (first[2:] or [None])[0]
    return False, (first or [None])[0]


def _given(options: argparse.Namespace, endpoint: str | None) -> dict:
    if options.config:
        documents = configuration.read(options.config)
        if "JoinConfiguration" not in documents:
            raise Failure("no JoinConfiguration found in config file")
        return documents["JoinConfiguration"]
    discovery: dict = {}
    token = options.discovery_token or options.token
    if token:
        discovery["bootstrapToken"] = {
            "token": token,
            "apiServerEndpoint": endpoint or "",
            "caCertHashes": options.discovery_token_ca_cert_hash,
            "unsafeSkipCAVerification": options.discovery_token_unsafe_skip_ca_verification,
        }
    elif options.discovery_file:
        discovery["file"] = {"kubeConfigPath": options.discovery_file}
    if options.tls_bootstrap_token or options.token:
        discovery["tlsBootstrapToken"] = options.tls_bootstrap_token or options.token
    registration = {"name": options.node_name, "criSocket": options.cri_socket}
    made = {"discovery": discovery, "nodeRegistration": {name: value for name, value in registration.items() if value}}
    if options.control_plane:
        made["controlPlane"] = {}
    return made


# --- discovery: whom to trust


class _NotTrusted(Exception):
    """The API server is not the one meant; asking again may help (late token) or not."""

    def __init__(self, message: str, final: bool = False):
        super().__init__(message)
        self.final = final


def discover(discovery: dict) -> kubeconfig.Access:
    """Server and CA, proved by the token's signature and the CA's pin, or given by the file."""
    by_file = discovery.get("file")
    token = discovery.get("tlsBootstrapToken", "")
    if by_file:
        text = pathlib.Path(by_file["kubeConfigPath"]).read_text()
        access = kubeconfig.Access(text)
        access.token = access.token or token
        return access
    given = discovery["bootstrapToken"]
    end = time.monotonic() + words.seconds(discovery["timeout"])
    while True:
        try:
            access = _ask(given)
            access.token = token
            return access
        except (client.Unreachable, client.Refused, _NotTrusted) as problem:
            final = isinstance(problem, _NotTrusted) and problem.final
            if final or time.monotonic() >= end:
                raise Failure(f"couldn't validate the identity of the API Server: {problem}") from problem
        time.sleep(min(5, max(0.2, end - time.monotonic())))


def _ask(given: dict) -> kubeconfig.Access:
    pins = [_pin(each) for each in given.get("caCertHashes") or []]
    nobody = kubeconfig.Access("{}")
    nobody.server = f"https://{given['apiServerEndpoint']}"
    path = f"{CLUSTER_INFO}?timeout=10s"
    info = client.Api(nobody).get(path)
    identifier, value = given["token"].split(".")
    content = info["data"]["kubeconfig"]
    signature = info["data"].get(f"jws-kubeconfig-{identifier}")
    if not signature:
        raise _NotTrusted(f"could not find a JWS signature in the cluster-info ConfigMap for token ID {quoted(identifier)}")
    if not tokens.verify(content, signature, identifier, value):
        raise _NotTrusted("failed to verify JWS signature of received cluster info object, can't trust this API Server", final=True)
    access = kubeconfig.Access(content)
    if pins:
        found = pki.spki_hash(x509.load_pem_x509_certificate(access.ca))
        if found not in pins:
            raise _NotTrusted(
                f'cluster CA found in cluster-info ConfigMap is invalid: none of the public keys "{found}" are pinned', final=True
            )
    client.Api(access).get(path)
    return access


def _pin(text: str) -> str:
    kind, _, value = text.partition(":")
    prefix = "invalid discovery token CA certificate hash: invalid hash"
    if kind != "sha256":
        raise _NotTrusted(f"{prefix} {quoted(text)}, unsupported hash format {quoted(kind)}", final=True)
    try:
        length = len(bytes.fromhex(value))
    except ValueError:
        length = len(value) // 2
    if length != hashlib.sha256().digest_size:
        raise _NotTrusted(f"{prefix} {quoted(text)}, expected a 32 byte SHA-256 hash, found {length} bytes", final=True)
    return text.lower()


def _read_configuration(access: kubeconfig.Access, made: dict) -> dict:
    out("[preflight] Reading configuration from the cluster...")
    out("[preflight] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'")
    api = client.Api(access)
    stored = api.get("/api/v1/namespaces/kube-system/configmaps/kubeadm-config?timeout=10s")
    cluster = words.load(stored["data"]["ClusterConfiguration"])
    if made.get("controlPlane") is not None and not cluster.get("controlPlaneEndpoint"):
        text = "unable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint address"
        raise Failure(text)
    return cluster


# --- the kubelet


def _start_kubelet(access: kubeconfig.Access, made: dict, cluster: dict) -> None:
    api, registration = client.Api(access), made["nodeRegistration"]
    name = registration["name"]
    node = api.find(f"/api/v1/nodes/{name}")
    conditions = ((node or {}).get("status") or {}).get("conditions", [])
    if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        text = f'a Node with name {quoted(name)} and status "Ready" already exists in the cluster.'
        raise Failure(f"{text} You must delete the existing Node or change the name of this new joining Node")
    kubelet = words.load(api.get("/api/v1/namespaces/kube-system/configmaps/kubelet-config")["data"]["kubelet"])
    paths.write(paths.BOOTSTRAP_CONF, kubeconfig.with_token(access.server, access.ca, access.token), 0o600)
    paths.write(pathlib.Path(made["caCertPath"]) if paths.ROOT == pathlib.Path("/") else paths.PKI / "ca.crt", access.ca, 0o644)
    kubeadm_init.write_kubelet(registration, kubelet, cluster, environment_first=False)
    out("[kubelet-start] Starting the kubelet")
    kubeadm_init.restart_kubelet()
    out("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap...")
    if not waiting.until(lambda: paths.KUBELET_CONF.exists() and waiting.kubelet_problem() is None, 300):
        waiting.explain_failure(None)
        raise Failure("timed out waiting for the condition")
    own = client.Api(kubeconfig.read(paths.KUBELET_CONF))
    body = {"metadata": {"annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": registration["criSocket"]}}}
    waiting.patch_node(own, name, body)
    paths.BOOTSTRAP_CONF.unlink(missing_ok=True)
