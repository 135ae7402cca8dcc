"""The objects of a cluster: in memory, and as one JSON file where etcd would keep its own."""

import copy
import json
import os
import pathlib
import threading
import uuid

from standin import words

# (group, resource): (kind, namespaced)
RESOURCES = {
    ("", "nodes"): ("Node", False),
    ("", "namespaces"): ("Namespace", False),
    ("", "persistentvolumes"): ("PersistentVolume", False),
    ("", "pods"): ("Pod", True),
    ("", "configmaps"): ("ConfigMap", True),
    ("", "secrets"): ("Secret", True),
    ("", "services"): ("Service", True),
    ("", "serviceaccounts"): ("ServiceAccount", True),
    ("", "events"): ("Event", True),
    ("apps", "deployments"): ("Deployment", True),
    ("apps", "daemonsets"): ("DaemonSet", True),
    ("apps", "replicasets"): ("ReplicaSet", True),
    ("apps", "statefulsets"): ("StatefulSet", True),
    ("policy", "poddisruptionbudgets"): ("PodDisruptionBudget", True),
    ("coordination.k8s.io", "leases"): ("Lease", True),
    ("certificates.k8s.io", "certificatesigningrequests"): ("CertificateSigningRequest", False),
    ("rbac.authorization.k8s.io", "roles"): ("Role", True),
    ("rbac.authorization.k8s.io", "rolebindings"): ("RoleBinding", True),
    ("rbac.authorization.k8s.io", "clusterroles"): ("ClusterRole", False),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): ("ClusterRoleBinding", False),
    ("apiextensions.k8s.io", "customresourcedefinitions"): ("CustomResourceDefinition", False),
    ("storage.k8s.io", "storageclasses"): ("StorageClass", False),
}
QUIET = {"leases", "events"}


class Problem(Exception):
    """A request that cannot be done, as the API's Status object."""

    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message)
        self.code, self.reason = code, reason

    def status(self) -> dict:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }


def api_version(group: str) -> str:
    return f"{group}/v1" if group else "v1"


def described(group: str, resource: str) -> str:
    return f"{resource}.{group}" if group else resource


class Store:
    """All objects by (group, resource, namespace, name). What it hands out are copies."""

    def __init__(self, file: pathlib.Path):
        self.file, self.lock = file, threading.RLock()
        self.objects: dict[tuple, dict] = {}
        self.version = 1
        if file.exists() and file.stat().st_size:
            kept = json.loads(file.read_text())
            self.version = kept["version"]
            self.objects = {tuple(key): value for key, value in kept["objects"]}

    def save(self) -> None:
        with self.lock:
            text = json.dumps({"version": self.version, "objects": [[list(key), value] for key, value in self.objects.items()]})
            fresh = self.file.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as out:
                out.write(text)
                out.flush()
                os.fsync(descriptor)
            fresh.rename(self.file)

    def get(self, group: str, resource: str, namespace: str, name: str) -> dict:
        with self.lock:
            found = self.objects.get((group, resource, namespace, name))
            if found is None:
                raise Problem(404, "NotFound", f'{described(group, resource)} "{name}" not found')
            return copy.deepcopy(found)

    def find(self, group: str, resource: str, namespace: str, name: str) -> dict | None:
        with self.lock:
            return copy.deepcopy(self.objects.get((group, resource, namespace, name)))

    def list(self, group: str, resource: str, namespace: str | None = None) -> list[dict]:
        with self.lock:
            keys = sorted(key for key in self.objects if key[:2] == (group, resource) and namespace in (None, "", key[2]))
            return [copy.deepcopy(self.objects[key]) for key in keys]

    def create(self, group: str, resource: str, namespace: str, body: dict) -> dict:
        with self.lock:
            made = copy.deepcopy(body)
            metadata = made.setdefault("metadata", {})
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            name = metadata.get("name")
            if not name:
                raise Problem(422, "Invalid", f"{described(group, resource)} must have metadata.name")
            key = (group, resource, namespace, name)
            if key in self.objects:
                raise Problem(409, "AlreadyExists", f'{described(group, resource)} "{name}" already exists')
            metadata |= {"creationTimestamp": words.now(), "uid": str(uuid.uuid4())}
            if namespace:
                metadata["namespace"] = namespace
            return self._put(key, made)

    def replace(self, group: str, resource: str, namespace: str, name: str, body: dict) -> dict:
        with self.lock:
            before, made = self.get(group, resource, namespace, name), copy.deepcopy(body)
            stated = (made.get("metadata") or {}).get("resourceVersion")
            if stated and stated != before["metadata"]["resourceVersion"]:
                message = f'Operation cannot be fulfilled on {described(group, resource)} "{name}": the object has been modified;'
                raise Problem(409, "Conflict", f"{message} please apply your changes to the latest version and try again")
            metadata = made.setdefault("metadata", {})
            metadata |= {field: before["metadata"][field] for field in ("uid", "creationTimestamp")}
            metadata["name"] = name
            if namespace:
                metadata["namespace"] = namespace
            return self._put((group, resource, namespace, name), made)

    def delete(self, group: str, resource: str, namespace: str, name: str) -> dict:
        with self.lock:
            gone = self.get(group, resource, namespace, name)
            del self.objects[group, resource, namespace, name]
            if resource == "nodes":
                self._forget_node(name)
            self._collect(gone["metadata"]["uid"])
            self.save()
            return gone

    def _forget_node(self, name: str) -> None:
        self.objects.pop(("coordination.k8s.io", "leases", "kube-node-lease", name), None)
        for key in [key for key, pod in self.objects.items() if key[1] == "pods" and pod["spec"].get("nodeName") == name]:
            del self.objects[key]

    def _collect(self, uid: str) -> None:
        """Deletes what the object owned."""
        owned = lambda item: any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or [])
        for key in [key for key, item in self.objects.items() if owned(item)]:
            gone = self.objects.pop(key, None)
            if gone:
                self._collect(gone["metadata"]["uid"])

    def _put(self, key: tuple, made: dict) -> dict:
        group, resource, _, _ = key
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        made = {"apiVersion": api_version(group), "kind": RESOURCES[group, resource][0], **made}
        self.objects[key] = made
        if resource not in QUIET:
            self.save()
        return copy.deepcopy(made)


# Lists that a strategic patch merges by a key instead of replacing them.
MERGE_KEYS = {"conditions": ("type",), "taints": ("key", "effect"), "addresses": ("type",), "containers": ("name",)}


def merge(before, patch, strategic: bool = False):
    """A merge patch; a strategic one merges the lists above by key and knows `$patch: delete`."""
    if not isinstance(patch, dict):
        return patch
    made = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            made.pop(name, None)
        elif strategic and isinstance(value, list) and name in MERGE_KEYS:
            made[name] = _merge_list(made.get(name) or [], value, MERGE_KEYS[name])
        else:
            made[name] = merge(made.get(name), value, strategic)
    return made


def _merge_list(before: list[dict], patch: list[dict], keys: tuple) -> list[dict]:
    identity = lambda item: tuple(item.get(key) for key in keys)
    made = {identity(item): item for item in before}
    for item in patch:
        if item.get("$patch") == "delete":
            made.pop(identity(item), None)
        else:
            made[identity(item)] = merge(made.get(identity(item)), item, True)
    return list(made.values())


def json_patch(before: dict, operations: list[dict]) -> dict:
    made = copy.deepcopy(before)
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        _apply(made, parts, operation)
    return made


def _apply(target, parts: list[str], operation: dict) -> None:
    for part in parts[:-1]:
        target = target[int(part)] if isinstance(target, list) else target[part]
    last, action = parts[-1], operation["op"]
    if isinstance(target, list):
        index = len(target) if last == "-" else int(last)
        if action == "remove":
            del target[index]
        elif action == "add":
            target.insert(index, operation["value"])
        else:
            target[index] = operation["value"]
    elif action == "remove":
        del target[last]
    elif action == "test":
        if target.get(last) != operation["value"]:
            raise Problem(422, "Invalid", f"the server rejected our request: testing {operation['path']} failed")
    else:
        target[last] = operation["value"]
