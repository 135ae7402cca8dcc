"""Fields of the configuration kinds, with their types: kubeadm v1beta3, kubelet v1beta1, kube-proxy v1alpha1.

A type is one of the words below, a list with one type, a dict {"*": type} for a map, or a dict of fields.
Checking is as strict as `kubeadm config validate`: an unknown field is an error.
"""

from standin.words import quoted

STRING, BOOL, INT, DURATION, ANY = "string", "bool", "int32", "Duration", "any"

GO = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}

MAP = {"*": STRING}
GATES = {"*": BOOL}
PATCHES = {"directory": STRING}
TAINT = {"key": STRING, "value": STRING, "effect": STRING, "timeAdded": STRING}
ENDPOINT = {"advertiseAddress": STRING, "bindPort": INT}
VOLUME = {"name": STRING, "hostPath": STRING, "mountPath": STRING, "readOnly": BOOL, "pathType": STRING}
COMPONENT = {"extraArgs": MAP, "extraVolumes": [VOLUME]}
IMAGE = {"imageRepository": STRING, "imageTag": STRING}
NODE_REGISTRATION = {
    "name": STRING,
    "criSocket": STRING,
    "taints": [TAINT],
    "kubeletExtraArgs": MAP,
    "ignorePreflightErrors": [STRING],
    "imagePullPolicy": STRING,
}
TOKEN = {"token": STRING, "description": STRING, "ttl": DURATION, "expires": STRING, "usages": [STRING], "groups": [STRING]}
KIND = {"apiVersion": STRING, "kind": STRING}

KUBEADM = {
    "InitConfiguration": {
        **KIND,
        "bootstrapTokens": [TOKEN],
        "nodeRegistration": NODE_REGISTRATION,
        "localAPIEndpoint": ENDPOINT,
        "certificateKey": STRING,
        "skipPhases": [STRING],
        "patches": PATCHES,
    },
    "ClusterConfiguration": {
        **KIND,
        "etcd": {
            "local": {**IMAGE, "dataDir": STRING, "extraArgs": MAP, "serverCertSANs": [STRING], "peerCertSANs": [STRING]},
            "external": {"endpoints": [STRING], "caFile": STRING, "certFile": STRING, "keyFile": STRING},
        },
        "networking": {"serviceSubnet": STRING, "podSubnet": STRING, "dnsDomain": STRING},
        "kubernetesVersion": STRING,
        "controlPlaneEndpoint": STRING,
        "apiServer": {**COMPONENT, "certSANs": [STRING], "timeoutForControlPlane": DURATION},
        "controllerManager": COMPONENT,
        "scheduler": COMPONENT,
        "dns": IMAGE,
        "certificatesDir": STRING,
        "imageRepository": STRING,
        "featureGates": GATES,
        "clusterName": STRING,
    },
    "JoinConfiguration": {
        **KIND,
        "nodeRegistration": NODE_REGISTRATION,
        "caCertPath": STRING,
        "discovery": {
            "bootstrapToken": {
                "token": STRING,
                "apiServerEndpoint": STRING,
                "caCertHashes": [STRING],
                "unsafeSkipCAVerification": BOOL,
            },
            "file": {"kubeConfigPath": STRING},
            "tlsBootstrapToken": STRING,
            "timeout": DURATION,
        },
        "controlPlane": {"localAPIEndpoint": ENDPOINT, "certificateKey": STRING},
        "skipPhases": [STRING],
        "patches": PATCHES,
    },
}


def _fields(kind: str, names: str) -> dict:
    return dict.fromkeys(names.split(), kind)


KUBELET = {
    **KIND,
    **_fields(
        BOOL,
        "enableServer rotateCertificates serverTLSBootstrap enableDebuggingHandlers enableContentionProfiling"
        " enableControllerAttachDetach makeIPTablesUtilChains failSwapOn protectKernelDefaults cgroupsPerQOS"
        " hairpinModeEnabled localStorageCapacityIsolation serializeImagePulls cpuCFSQuota enableProfilingHandler"
        " enableDebugFlagsHandler seccompDefault registerNode enableSystemLogHandler enableSystemLogQuery",
    ),
    **_fields(
        DURATION,
        "syncFrequency fileCheckFrequency httpCheckFrequency streamingConnectionIdleTimeout nodeStatusUpdateFrequency"
        " nodeStatusReportFrequency imageMinimumGCAge volumeStatsAggPeriod cpuManagerReconcilePeriod"
        " runtimeRequestTimeout cpuCFSQuotaPeriod evictionPressureTransitionPeriod shutdownGracePeriod"
        " shutdownGracePeriodCriticalPods",
    ),
    **_fields(
        INT,
        "port readOnlyPort registryPullQPS registryBurst eventRecordQPS eventBurst healthzPort oomScoreAdj"
        " nodeLeaseDurationSeconds imageGCHighThresholdPercent imageGCLowThresholdPercent maxPods podPidsLimit"
        " podsPerCore maxOpenFiles kubeAPIQPS kubeAPIBurst maxParallelImagePulls iptablesMasqueradeBit"
        " iptablesDropBit evictionMaxPodGracePeriod containerLogMaxFiles nodeStatusMaxImages",
    ),
    **_fields(
        STRING,
        "staticPodPath staticPodURL address tlsCertFile tlsPrivateKeyFile tlsMinVersion healthzBindAddress"
        " clusterDomain kubeletCgroups systemCgroups cgroupRoot cgroupDriver cpuManagerPolicy memoryManagerPolicy"
        " topologyManagerPolicy topologyManagerScope hairpinMode podCIDR resolvConf contentType containerLogMaxSize"
        " configMapAndSecretChangeDetectionStrategy systemReservedCgroup kubeReservedCgroup reservedSystemCPUs"
        " showHiddenMetricsForVersion volumePluginDir providerID containerRuntimeEndpoint imageServiceEndpoint",
    ),
    **_fields(ANY, "staticPodURLHeader authentication authorization shutdownGracePeriodByPodPriority logging"),
    **_fields(ANY, "reservedMemory memorySwap registerWithTaints tracing memoryThrottlingFactor"),
    **dict.fromkeys(("clusterDNS", "tlsCipherSuites", "allowedUnsafeSysctls", "enforceNodeAllocatable"), [STRING]),
    "featureGates": GATES,
    **dict.fromkeys(
        "evictionHard evictionSoft evictionSoftGracePeriod evictionMinimumReclaim systemReserved kubeReserved"
        " qosReserved cpuManagerPolicyOptions topologyManagerPolicyOptions".split(),
        MAP,
    ),
}

KUBE_PROXY = {
    **KIND,
    "featureGates": GATES,
    **_fields(
        STRING,
        "bindAddress healthzBindAddress metricsBindAddress hostnameOverride mode portRange clusterCIDR"
        " detectLocalMode showHiddenMetricsForVersion",
    ),
    **_fields(BOOL, "bindAddressHardFail enableProfiling"),
    **_fields(DURATION, "configSyncPeriod"),
    **_fields(INT, "oomScoreAdj"),
    "nodePortAddresses": [STRING],
    **_fields(ANY, "clientConnection iptables ipvs conntrack detectLocal winkernel logging"),
}

KINDS = {
    ("kubelet.config.k8s.io", "v1beta1", "KubeletConfiguration"): KUBELET,
    ("kubeproxy.config.k8s.io", "v1alpha1", "KubeProxyConfiguration"): KUBE_PROXY,
    **{("kubeadm.k8s.io", "v1beta3", kind): fields for kind, fields in KUBEADM.items()},
}


class Mismatch(Exception):
    """A value of the wrong type, in the words of Go's JSON decoder."""


def check(kind: str, value, fields: dict) -> list[str]:
    """Unknown fields, as paths; raises Mismatch for a wrong type."""
    unknown: list[str] = []
    _check(kind, "", value, fields, unknown)
    return unknown


def _check(struct: str, path: str, value, kind, unknown: list[str]) -> None:
    if value is None or kind == ANY:
        return
    if isinstance(kind, dict):
        _check_object(struct, path, value, kind, unknown)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise _mismatch(struct, path, value, "[]" + (kind[0] if isinstance(kind[0], str) else "object"))
        for index, item in enumerate(value):
            _check(struct, f"{path}[{index}]", item, kind[0], unknown)
    else:
        _check_scalar(struct, path, value, kind)


def _check_object(struct: str, path: str, value, fields: dict, unknown: list[str]) -> None:
    if not isinstance(value, dict):
        raise _mismatch(struct, path, value, "object")
    for name, item in value.items():
        where = f"{path}.{name}" if path else str(name)
        known = fields.get("*") or fields.get(name)
        if known is None:
            unknown.append(where)
        else:
            _check(struct, where, item, known, unknown)


def _check_scalar(struct: str, path: str, value, kind: str) -> None:
    wanted = {STRING: str, DURATION: str, BOOL: bool, INT: int}[kind]
    fits = isinstance(value, wanted) and not (kind == INT and isinstance(value, bool))
    if not fits:
        raise _mismatch(struct, path, value, "string" if kind == DURATION else kind)


def _mismatch(struct: str, path: str, value, kind: str) -> Mismatch:
    found = GO.get(type(value), "null")
    return Mismatch(f"json: cannot unmarshal {found} into Go struct field {struct}.{path} of type {kind}")


def strict_error(unknown: list[str]) -> str:
    return "strict decoding error: " + ", ".join(f"unknown field {quoted(path)}" for path in unknown)
