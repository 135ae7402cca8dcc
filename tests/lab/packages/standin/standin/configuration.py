"""kubeadm's configuration files: read strictly, completed with defaults, validated, printed.

One difference from the real program is deliberate: `init` and `join` refuse an unknown field as `config validate`
does, where the real ones only warn, so that a wrong configuration cannot pass a test unnoticed.
"""

import ipaddress
import pathlib
import re
import socket

import yaml

from standin import release, schema, tokens, words
from standin.words import Failure, quoted

GROUP, VERSION, NEWER = "kubeadm.k8s.io", "v1beta3", "v1beta4"
OLD = {"v1alpha1": "1.11", "v1alpha2": "1.12", "v1alpha3": "1.14", "v1beta1": "1.15", "v1beta2": "1.22"}
CRI_SOCKET = "unix:///var/run/containerd/containerd.sock"
TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

KUBELET_DEFAULTS = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMinimumGCAge: 0s
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""


def read(path: str) -> dict[str, dict]:
    """The documents of a file by kind, strictly decoded."""
    try:
        text = pathlib.Path(path).read_text()
    except OSError as problem:
        raise Failure(f"open {path}: {problem.strerror.lower()}") from problem
    return decode(text)


def decode(text: str) -> dict[str, dict]:
    found, unknown = {}, []
    for document in words.split_documents(text):
        group, version, kind, value = _identify(document)
        if group == GROUP and version in OLD:
            raise Failure(_old(version))
        if group == GROUP and version == NEWER:
            message = f'experimental API spec: "{GROUP}/{version}" is not allowed.'
            raise Failure(f"{message} You can use the --allow-experimental-api flag if the command supports it.")
        if kind in found:
            raise Failure(f"invalid configuration: kind {quoted(kind)} is specified twice in YAML file")
        if (group, version, kind) not in schema.KINDS:
            unknown.append(_gvk(group, version, kind))
        found[kind] = (group, version, value)
    if unknown:
        listed = ", ".join(f"schema.{each}" for each in unknown)
        raise Failure(f"unknown configuration APIs: []schema.GroupVersionKind{{{listed}}}")
    return {kind: _strict(group, version, kind, value) for kind, (group, version, value) in found.items()}


def _identify(document: str):
    try:
        value = words.load(document)
    except words.DuplicateKey as problem:
        plain = yaml.safe_load(document)
        group, _, version = str(plain.get("apiVersion", "")).rpartition("/")
        gvk = _gvk(group, version, plain.get("kind", ""))
        raise Failure(
            f"error unmarshaling configuration schema.{gvk}: strict decoding error: yaml: unmarshal errors:\n{problem}"
        ) from problem
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        reason = re.sub("allowed here$", "allowed in this context", problem.problem or "")
        where = f"yaml: line {line}: {reason}"
        raise Failure(f"could not interpret GroupVersionKind; unmarshal error: error converting YAML to JSON: {where}") from problem
    if not isinstance(value, dict) or not value.get("kind") or not value.get("apiVersion"):
        message = "invalid configuration for GroupVersionKind /, Kind=: kind and apiVersion is mandatory information that must be specified"
        raise Failure(message)
    group, _, version = str(value["apiVersion"]).rpartition("/")
    return group, version, str(value["kind"]), value


def _gvk(group: str, version: str, kind: str) -> str:
    return f"GroupVersionKind{{Group:{quoted(group)}, Version:{quoted(version)}, Kind:{quoted(kind)}}}"


def _old(version: str) -> str:
    return (
        f'your configuration file uses an old API spec: "{GROUP}/{version}". Please use kubeadm v{OLD[version]} instead and run'
        " 'kubeadm config migrate --old-config old.yaml --new-config new.yaml', which will write the new, similar spec using a newer API version."
    )


def _strict(group: str, version: str, kind: str, value: dict) -> dict:
    where = f"error unmarshaling configuration schema.{_gvk(group, version, kind)}"
    try:
        unknown = schema.check(kind, value, schema.KINDS[group, version, kind])
    except schema.Mismatch as problem:
        raise Failure(f"{where}: {problem}") from problem
    if unknown:
        raise Failure(f"{where}: {schema.strict_error(unknown)}")
    return value


# --- Defaults -------------------------------------------------------------------------------------------------


def default_address() -> str:
    """The address of the interface with the default route; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def cluster(given: dict | None) -> dict:
    given = dict(given or {})
    version = given.get("kubernetesVersion") or ""
    if version in ("", "stable", "stable-1"):
        version = _ask_for_version()
    networking = {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12", **(given.get("networking") or {})}
    etcd = given.get("etcd") or {}
    if "external" not in etcd:
        etcd = {"local": {"dataDir": "/var/lib/etcd", **(etcd.get("local") or {})}}
    server = {"timeoutForControlPlane": "4m0s", **(given.get("apiServer") or {})}
    server["timeoutForControlPlane"] = words.duration(server["timeoutForControlPlane"])
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ClusterConfiguration",
        "certificatesDir": "/etc/kubernetes/pki",
        "clusterName": "kubernetes",
        "controllerManager": {},
        "dns": {},
        "imageRepository": "registry.k8s.io",
        "scheduler": {},
        **given,
        "apiServer": server,
        "etcd": etcd,
        "kubernetesVersion": _version(version),
        "networking": networking,
    }


def _ask_for_version() -> str:
    url = "https://dl.k8s.io/release/stable-1.txt"
    problem = f'could not fetch a Kubernetes version from the internet: unable to get URL "{url}": Get "{url}": no network in the lab'
    words.warning("version.go:104", problem)
    words.warning("version.go:105", f"falling back to the local client version: {release.VERSION}")
    return release.VERSION


def _version(version: str) -> str:
    if not re.fullmatch(r"v?\d+\.\d+\.\d+([-+].*)?", version):
        message = f"version {quoted(version)} doesn't match patterns for neither semantic version nor labels (stable, latest, ...)"
        raise Failure(message)
    if release.numbers(version) < release.OLDEST_CONTROL_PLANE:
        oldest = ".".join(map(str, release.OLDEST_CONTROL_PLANE))
        message = f"this version of kubeadm only supports deploying clusters with the control plane version >= {oldest}."
        raise Failure(f"{message} Current version: {version}")
    return version if version.startswith("v") else f"v{version}"


def init(given: dict | None) -> dict:
    given = dict(given or {})
    endpoint = {"bindPort": 6443, **(given.get("localAPIEndpoint") or {})}
    endpoint.setdefault("advertiseAddress", default_address())
    listed = given.get("bootstrapTokens") or [{}]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InitConfiguration",
        **given,
        "bootstrapTokens": [_token(each) for each in listed],
        "localAPIEndpoint": endpoint,
        "nodeRegistration": registration(given.get("nodeRegistration"), [TAINT]),
    }


def _token(given: dict) -> dict:
    token = {"groups": [tokens.GROUP], "usages": ["signing", "authentication"], **given}
    token["token"] = token.get("token") or tokens.generate()
    if "expires" not in token:
        token["ttl"] = words.duration(token.get("ttl", tokens.DEFAULT_TTL))
    return token


def registration(given: dict | None, taints: list[dict] | None) -> dict:
    given = dict(given or {})
    name = (given.get("name") or socket.gethostname()).strip().lower()
    made = {"criSocket": CRI_SOCKET, "imagePullPolicy": "IfNotPresent", **given, "name": name}
    made["criSocket"] = _socket(made["criSocket"])
    if given.get("taints") is None and taints is not None:
        made["taints"] = taints
    return made


def _socket(path: str) -> str:
    return f"unix://{path}" if path.startswith("/") else path


def join(given: dict) -> dict:
    discovery = {"timeout": "5m0s", **(given.get("discovery") or {})}
    by_token = dict(discovery.get("bootstrapToken") or {})
    if by_token:
        discovery["bootstrapToken"] = by_token
        discovery["tlsBootstrapToken"] = discovery.get("tlsBootstrapToken") or by_token.get("token", "")
    taints = [TAINT] if given.get("controlPlane") is not None else None
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "JoinConfiguration",
        "caCertPath": "/etc/kubernetes/pki/ca.crt",
        **given,
        "discovery": discovery,
        "nodeRegistration": registration(given.get("nodeRegistration"), taints),
    }


def kubelet(given: dict | None, networking: dict) -> dict:
    """The kubelet's configuration, with what kubeadm derives from the cluster's."""
    made = words.load(KUBELET_DEFAULTS)
    first = ipaddress.ip_network(networking["serviceSubnet"].split(",")[0], strict=False)
    made.update(clusterDNS=[str(first[10])], clusterDomain=networking["dnsDomain"])
    made.update({name: value for name, value in (given or {}).items() if value is not None})
    return made


# --- Validation -----------------------------------------------------------------------------------------------


def validate_init(made: dict, of_cluster: dict) -> None:
    _check_host_port(of_cluster.get("controlPlaneEndpoint"))
    problems = [*_registration_problems(made["nodeRegistration"])]
    address = made["localAPIEndpoint"]["advertiseAddress"]
    if not is_address(address):
        problems.append(f"localAPIEndpoint: Invalid value: {quoted(address)}: ip address is not valid")
    for token in made["bootstrapTokens"]:
        if not tokens.FORM.match(token["token"]):
            problems.append(f"bootstrapTokens: Invalid value: {quoted(token['token'])}: the bootstrap token is invalid")
    networking = of_cluster["networking"]
    for field in ("serviceSubnet", "podSubnet"):
        for subnet in filter(None, (networking.get(field) or "").split(",")):
            if not _is_network(subnet):
                problems.append(f"networking.{field}: Invalid value: {quoted(networking[field])}: couldn't parse subnet")
    key = made.get("certificateKey")
    if key and not re.fullmatch(r"[0-9a-f]{64}", key):
        problems.append('certificateKey: Invalid value: "": certificate key is not a 32 byte hex string')
    refuse(problems)


def validate_join(made: dict) -> None:
    discovery, problems = made["discovery"], []
    by_token = discovery.get("bootstrapToken")
    if by_token:
        problems += _token_problems(by_token, discovery["tlsBootstrapToken"])
    elif discovery.get("file"):
        path = discovery["file"].get("kubeConfigPath", "")
        if not path.startswith("https://") and not pathlib.Path(path).is_file():
            where = "discovery.file.kubeConfigPath"
            problems.append(f"{where}: Invalid value: {quoted(path)}: not a valid HTTPS URL or a file on disk")
    else:
        problems.append('discovery: Invalid value: "": bootstrapToken or file must be set')
    problems += _registration_problems(made["nodeRegistration"])
    refuse(problems)


def _token_problems(by_token: dict, tls_token: str) -> list[str]:
    problems = []
    for field, token in (("bootstrapToken.token", by_token.get("token", "")), ("tlsBootstrapToken", tls_token)):
        if not tokens.FORM.match(token):
            problems.append(f"discovery.{field}: Invalid value: {quoted(token)}: the bootstrap token is invalid")
    if not by_token.get("caCertHashes") and not by_token.get("unsafeSkipCAVerification"):
        problems.append(
            'discovery.bootstrapToken.caCertHashes: Invalid value: "": using token-based discovery without caCertHashes'
            " can be unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file or pass"
            " --discovery-token-unsafe-skip-ca-verification flag to continue"
        )
    if not by_token.get("apiServerEndpoint"):
        problems.append('discovery.bootstrapToken.apiServerEndpoint: Invalid value: "": APIServerEndpoint is not set')
    return problems


def _registration_problems(made: dict) -> list[str]:
    if re.fullmatch(SUBDOMAIN, made["name"]) and len(made["name"]) <= 253:
        return []
    return [
        f"nodeRegistration.name: Invalid value: {quoted(made['name'])}: a lowercase RFC 1123 subdomain must consist of lower case"
        " alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        f" (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
    ]


def refuse(problems: list[str]) -> None:
    if problems:
        raise Failure(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]", 3)


def _check_host_port(endpoint: str | None) -> None:
    """The first thing that fails, and with 1 and not 3."""
    if not endpoint:
        return
    host, _, port = endpoint.rpartition(":")
    if host and not (port.isdigit() and 1 <= int(port) <= 65535):
        raise Failure(f"hostport {endpoint}: port {port} must be a valid number between 1 and 65535, inclusive")
    host = (host or endpoint).strip("[]")
    if not is_address(host) and not re.fullmatch(SUBDOMAIN, host.lower()):
        raise Failure(f"hostport {endpoint}: host '{host}' must be a valid IP address or a valid RFC-1123 DNS subdomain")


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
        return True
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
        return "/" in text
    except ValueError:
        return False
