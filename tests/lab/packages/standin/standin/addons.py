"""CoreDNS and kube-proxy, as far as their objects go."""

from standin import client, manifests, words
from standin.words import Failure, out

CRITICAL = [{"key": "CriticalAddonsOnly", "operator": "Exists"}, {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
ANYWHERE = [{"operator": "Exists"}]


def apply(api: client.Api, cluster: dict, kube_proxy: dict, skipped: set[str]) -> None:
    images = manifests.images(cluster)
    try:
        if "addon/coredns" not in skipped:
            api.ensure("/apis/apps/v1/namespaces/kube-system/deployments", _coredns(images["coredns"]))
            out("[addons] Applied essential addon: CoreDNS")
        if "addon/kube-proxy" not in skipped:
            api.ensure("/api/v1/namespaces/kube-system/configmaps", _proxy_config(cluster, kube_proxy))
            api.ensure("/apis/apps/v1/namespaces/kube-system/daemonsets", _proxy(images["kube-proxy"]))
            out("[addons] Applied essential addon: kube-proxy")
    except (client.Refused, client.Unreachable) as problem:
        raise Failure(f"error execution phase addon: {problem}") from problem


def _template(name: str, image: str, labels: dict, tolerations: list, host: bool) -> dict:
    spec = {"containers": [{"name": name, "image": image}], "tolerations": tolerations, "priorityClassName": "system-cluster-critical"}
    if host:
        spec["hostNetwork"] = True
    return {"metadata": {"labels": labels}, "spec": spec}


def _coredns(image: str) -> dict:
    labels = {"k8s-app": "kube-dns"}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": _template("coredns", image, labels, CRITICAL, False)}
    return {"metadata": {"name": "coredns", "namespace": "kube-system", "labels": labels}, "spec": spec}


def _proxy(image: str) -> dict:
    labels = {"k8s-app": "kube-proxy"}
    spec = {"selector": {"matchLabels": labels}, "template": _template("kube-proxy", image, labels, ANYWHERE, True)}
    return {"metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": labels}, "spec": spec}


def _proxy_config(cluster: dict, given: dict) -> dict:
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "clusterCIDR": cluster["networking"].get("podSubnet", ""),
        **given,
    }
    return {"metadata": {"name": "kube-proxy", "namespace": "kube-system"}, "data": {"config.conf": words.dump(settings)}}
