"""Cordon, drain and taints of a node."""

import argparse
import sys
import time

from standin import client, words
from standin.words import Failure

MIRROR = "kubernetes.io/config.mirror"


def cordon(api: client.Api, name: str, wanted: bool) -> None:
    node = api.get(f"/api/v1/nodes/{name}")
    done = "cordoned" if wanted else "uncordoned"
    if bool(node["spec"].get("unschedulable")) == wanted:
        print(f"node/{name} already {done}", flush=True)
        return
    api.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True if wanted else None}})
    print(f"node/{name} {done}", flush=True)


def drain(api: client.Api, options: argparse.Namespace) -> None:
    name = options.node
    cordon(api, name, True)
    pods = [
        pod
        for pod in api.items(f"/api/v1/pods?fieldSelector=spec.nodeName={name}")
        if MIRROR not in (pod["metadata"].get("annotations") or {})
    ]
    owned = [pod for pod in pods if owner(pod) == "DaemonSet"]
    moving = [pod for pod in pods if owner(pod) != "DaemonSet"]
    _refuse(name, owned, moving, options)
    if owned:
        print(f"Warning: ignoring DaemonSet-managed Pods: {', '.join(sorted(map(full_name, owned)))}", file=sys.stderr, flush=True)
    for pod in moving:
        print(f"evicting pod {full_name(pod)}", flush=True)
        evict(api, pod)
    _await(api, name, moving, words.seconds(options.timeout))
    print(f"node/{name} drained", flush=True)


def _refuse(name: str, owned: list[dict], moving: list[dict], options: argparse.Namespace) -> None:
    problems = []
    if owned and options.ignore_daemonsets != "true":
        problems.append(f"cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {', '.join(map(full_name, owned))}")
    local = [pod for pod in moving if any("emptyDir" in volume for volume in pod["spec"].get("volumes") or [])]
    if local and options.delete_emptydir_data != "true":
        problems.append(
            f"cannot delete Pods with local storage (use --delete-emptydir-data to override): {', '.join(map(full_name, local))}"
        )
    lonely = [pod for pod in moving if owner(pod) is None]
    if lonely and options.force != "true":
        problems.append(f"cannot delete Pods that declare no controller (use --force to override): {', '.join(map(full_name, lonely))}")
    if problems:
        listed = "\n".join(problems)
        raise Failure(
            f'error: unable to drain node "{name}" due to error:{listed}, continuing command...\nThere are pending nodes to be drained:\n {name}\n{listed}'
        )


def evict(api: client.Api, pod: dict) -> None:
    metadata = pod["metadata"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]}}
    try:
        api.create(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction", body)
    except client.Refused as refusal:
        if refusal.code != 404:
            raise


def _await(api: client.Api, name: str, moving: list[dict], timeout: float) -> None:
    end = time.monotonic() + timeout if timeout else None
    left = {pod["metadata"]["uid"]: pod for pod in moving}
    while left:
        there = {pod["metadata"]["uid"] for pod in api.items(f"/api/v1/pods?fieldSelector=spec.nodeName={name}")}
        for uid in [uid for uid in left if uid not in there]:
            print(f"pod/{left.pop(uid)['metadata']['name']} evicted", flush=True)
        if left and end and time.monotonic() > end:
            raise Failure(
                f'error: unable to drain node "{name}" due to error:drain did not complete within {int(timeout)}s, continuing command...'
            )
        if left:
            time.sleep(0.5)


def owner(pod: dict) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or []
    return owners[0]["kind"] if owners else None


def full_name(pod: dict) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def taints(node: dict, changes: list[str]) -> list[dict]:
    """A node's taints after the changes KEY[=VALUE]:EFFECT, KEY[:EFFECT]-."""
    made = list(node["spec"].get("taints") or [])
    for change in changes:
        pair, _, effect = change.removesuffix("-").partition(":")
        key, _, value = pair.partition("=")
        kept = [taint for taint in made if taint["key"] != key or (effect and taint["effect"] != effect)]
        if change.endswith("-"):
            if len(kept) == len(made):
                raise Failure(f'error: taint "{change.removesuffix("-")}" not found')
            made = kept
        else:
            made = [*kept, {"key": key, "effect": effect, **({"value": value} if value else {})}]
    return made
