"""What examples/quickstart needs to know of a lab: values of its variables, and what machines of a lab need besides."""

import json

from . import cgroups
from .settings import Settings

# The lab's machines share one disk with the host, and its being nearly full must not evict their pods.
EVICTION = {
    **{f"{signal}.available": "1%" for signal in ("nodefs", "imagefs")},
    **{f"{signal}.inodesFree": "1%" for signal in ("nodefs", "imagefs")},
    "memory.available": "20Mi",
}

# A lab that has no Kubernetes shows the machines alone.
WITHOUT_KUBERNETES = {
    "resource": {
        "groundwork_machine": {"machine": {"dynamic": {"kubernetes": {"for_each": [], "content": {}}}}},
        "groundwork_cluster": {"main": {"count": 0}},
    },
    "output": {"kubeconfig": {"value": None}},
}


def variables(settings: Settings, environment: dict[str, str]) -> dict:
    """One control plane, one worker."""
    values = {
        "node": "pve1",
        "image_url": environment["LAB_IMAGE_URL"],
        "image_checksum": f"sha256:{environment['LAB_IMAGE_SHA256']}",
        "addresses": {"control_plane": settings.address(11), "workers": [settings.address(21)]},
        "gateway": settings.address(1),
        "memory_mib": 2048,
        "disk_gib": 4,
        "cpu_type": "host",
    }
    if "LAB_KUBERNETES_URL" in environment:
        values["kubernetes_version"] = environment["LAB_KUBERNETES_VERSION"]
        values["kubernetes_repository"] = {
            "url": environment["LAB_KUBERNETES_URL"],
            "key_pem": environment.get("LAB_KUBERNETES_KEY"),
        }
    return values


def override(settings: Settings, environment: dict[str, str]) -> dict:
    """An override file for Terraform: images from the lab's registry, and what containers cannot do."""
    if "LAB_REGISTRY" not in environment:
        return WITHOUT_KUBERNETES
    registry = {"_default": {"mirrors": [environment["LAB_REGISTRY"]]}}
    resources = {"groundwork_machine": {"machine": {"container_runtime": {"registry": registry}}}}
    if settings.backend == "nspawn":
        resources["groundwork_cluster"] = {"main": _for_containers()}
    return {"resource": resources}


def _for_containers() -> dict:
    kubelet = {"evictionHard": EVICTION, "imageGCHighThresholdPercent": 100}
    cluster = {
        # The number of tracked connections is the host's to set.
        "config": {"kube_proxy": json.dumps({"conntrack": {"maxPerCore": 0, "min": 0}})},
    }
    if cgroups.are_of_the_first_version():
        # From 1.35 on the kubelet wants to be told so, and kubeadm's check does not know that it was.
        kubelet["failCgroupV1"] = False
        cluster["ignore_preflight_errors"] = ["SystemVerification"]
    cluster["config"]["kubelet"] = json.dumps(kubelet)
    return cluster
