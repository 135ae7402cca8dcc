"""What the controller manager and the scheduler do, as far as nodes, tokens and add-ons are concerned."""

import base64
import datetime
import ipaddress
import secrets
import threading
import traceback

from cryptography import x509

from standin import auth, paths, pki, store, tokens, words

GRACE = datetime.timedelta(seconds=40)
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Controllers(threading.Thread):
    """Looks at everything once a second."""

    def __init__(self, kept: store.Store, pod_subnet: str | None):
        super().__init__(daemon=True)
        self.kept, self.pod_subnet, self.stop = kept, pod_subnet, threading.Event()
        self.started = datetime.datetime.now(datetime.timezone.utc)

    def run(self) -> None:
        while not self.stop.wait(1):
            for duty in (self.tokens, self.nodes, self.requests, self.deployments, self.daemon_sets, self.schedule):
                try:
                    with self.kept.lock:
                        duty()
                except store.Problem:
                    pass  # Somebody else was faster; the next round sees it.
                except Exception:
                    traceback.print_exc()

    # --- tokens: the cleaner and the signer of cluster-info

    def tokens(self) -> None:
        info = self.kept.find("", "configmaps", "kube-public", "cluster-info")
        wanted = {}
        for secret in self.kept.list("", "secrets", "kube-system"):
            if secret.get("type") != "bootstrap.kubernetes.io/token":
                continue
            data = tokens.fields(secret)
            if tokens.expired(data):
                self.kept.delete("", "secrets", "kube-system", secret["metadata"]["name"])
            elif info and "signing" in tokens.usages(data):
                content = info["data"]["kubeconfig"]
                wanted[f"jws-kubeconfig-{data['token-id']}"] = tokens.sign(content, data["token-id"], data["token-secret"])
        if info:
            signed = {key: value for key, value in info["data"].items() if key.startswith("jws-")}
            if signed != wanted:
                info["data"] = {"kubeconfig": info["data"]["kubeconfig"], **wanted}
                self._put("", "configmaps", "kube-public", info)

    # --- nodes: a node that stays silent for 40 s is no longer Ready

    def nodes(self) -> None:
        for node in self.kept.list("", "nodes"):
            before = repr(node)
            name = node["metadata"]["name"]
            self._give_subnet(node)
            if self._silent(name):
                self._mark_unknown(node)
            self._taint(node)
            if repr(node) != before:
                self._put("", "nodes", "", node)

    def _silent(self, name: str) -> bool:
        """A grace time begins anew with this process: before it, nobody could renew a lease."""
        lease = self.kept.find("coordination.k8s.io", "leases", "kube-node-lease", name)
        seen = words.moment(lease["spec"]["renewTime"]) if lease else self.started
        return datetime.datetime.now(datetime.timezone.utc) - max(seen, self.started) > GRACE

    def _mark_unknown(self, node: dict) -> None:
        for condition in node.get("status", {}).get("conditions", []):
            if condition["status"] != "Unknown":
                condition |= {"status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": words.now()}
                condition["message"] = "Kubelet stopped posting node status."

    def _taint(self, node: dict) -> None:
        status = ready(node)
        spec = node.setdefault("spec", {})
        taints = [taint for taint in spec.get("taints") or [] if taint["key"] not in (NOT_READY, UNREACHABLE, UNSCHEDULABLE)]
        cause = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(status, NOT_READY if status != "True" else None)
        if cause:
            taints += [{"key": cause, "effect": "NoSchedule"}, {"key": cause, "effect": "NoExecute"}]
        if spec.get("unschedulable"):
            taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
        if taints:
            spec["taints"] = taints
        else:
            spec.pop("taints", None)

    def _give_subnet(self, node: dict) -> None:
        spec = node.setdefault("spec", {})
        if not self.pod_subnet or spec.get("podCIDR"):
            return
        taken = {each.get("spec", {}).get("podCIDR") for each in self.kept.list("", "nodes")}
        for subnet in ipaddress.ip_network(self.pod_subnet.split(",")[0], strict=False).subnets(new_prefix=24):
            if str(subnet) not in taken:
                spec |= {"podCIDR": str(subnet), "podCIDRs": [str(subnet)]}
                return

    # --- certificate signing requests of kubelets

    def requests(self) -> None:
        for asked in self.kept.list("certificates.k8s.io", "certificatesigningrequests"):
            if (asked.get("status") or {}).get("certificate"):
                continue
            asked["status"] = {"conditions": [_approved()], "certificate": sign(asked)}
            self._put("certificates.k8s.io", "certificatesigningrequests", "", asked)

    # --- add-ons

    def deployments(self) -> None:
        for deployment in self.kept.list("apps", "deployments"):
            wanted = deployment["spec"].get("replicas", 1)
            owned = self._pods_of(deployment)
            for _ in range(wanted - len(owned)):
                prefix = f"{deployment['metadata']['name']}-5dd5756b68-"
                self._create_pod(deployment, prefix, None, "ReplicaSet")
            up = sum(1 for pod in owned if _running(pod))
            status = {"replicas": wanted, "readyReplicas": up, "availableReplicas": up, "updatedReplicas": wanted}
            self._status("deployments", deployment, status)

    def daemon_sets(self) -> None:
        for daemon_set in self.kept.list("apps", "daemonsets"):
            owned = self._pods_of(daemon_set)
            have = {pod["spec"].get("nodeName") for pod in owned}
            nodes = [node["metadata"]["name"] for node in self.kept.list("", "nodes")]
            for name in nodes:
                if name not in have:
                    self._create_pod(daemon_set, f"{daemon_set['metadata']['name']}-", name, "DaemonSet")
            up = sum(1 for pod in owned if _running(pod))
            status = {"desiredNumberScheduled": len(nodes), "currentNumberScheduled": len(owned), "numberReady": up, "numberAvailable": up}
            self._status("daemonsets", daemon_set, status)

    def schedule(self) -> None:
        nodes = [node for node in self.kept.list("", "nodes") if not node["spec"].get("unschedulable")]
        for pod in self.kept.list("", "pods"):
            if pod["spec"].get("nodeName"):
                continue
            for node in nodes:
                if all(_tolerated(pod, taint) for taint in node["spec"].get("taints") or []):
                    pod["spec"]["nodeName"] = node["metadata"]["name"]
                    self._put("", "pods", pod["metadata"]["namespace"], pod)
                    break

    def _pods_of(self, owner: dict) -> list[dict]:
        uid = owner["metadata"]["uid"]
        pods = self.kept.list("", "pods", owner["metadata"]["namespace"])
        return [pod for pod in pods if any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences", []))]

    def _create_pod(self, owner: dict, prefix: str, node: str | None, kind: str) -> None:
        template = owner["spec"].get("template", {})
        name = prefix + "".join(secrets.choice(LETTERS) for _ in range(5))
        parent = {"apiVersion": "apps/v1", "kind": kind, "name": prefix.rstrip("-"), "uid": owner["metadata"]["uid"], "controller": True}
        metadata = {"name": name, "labels": (template.get("metadata") or {}).get("labels", {}), "ownerReferences": [parent]}
        spec = dict(template.get("spec") or {})
        if node:
            spec["nodeName"] = node
        body = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
        self.kept.create("", "pods", owner["metadata"]["namespace"], body)

    def _status(self, resource: str, item: dict, status: dict) -> None:
        if item.get("status") != status:
            item["status"] = status
            self._put("apps", resource, item["metadata"]["namespace"], item)

    def _put(self, group: str, resource: str, namespace: str, item: dict) -> None:
        self.kept.replace(group, resource, namespace, item["metadata"]["name"], item)


def ready(node: dict) -> str | None:
    conditions = (node.get("status") or {}).get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == "Ready"), None)


def sign(asked: dict) -> str:
    """The certificate a kubelet asked for, base64 of PEM."""
    ca = pki.load(paths.PKI / "ca")
    request = x509.load_pem_x509_csr(base64.b64decode(asked["spec"]["request"]))
    made = pki.certify(ca, request.public_key(), request.subject, [pki.CLIENT])
    return base64.b64encode(pki.Pair(made, None).pem()).decode()


def may_be_signed(asked: dict, user: auth.User) -> bool:
    """Kubelets ask for themselves, newcomers for the node they are going to be."""
    request = x509.load_pem_x509_csr(base64.b64decode(asked["spec"]["request"]))
    name, groups = pki.subject(request)
    itself = user.name == name or auth.BOOTSTRAPPERS in user.groups or auth.ADMINS in user.groups
    return itself and name.startswith("system:node:") and groups == [auth.NODES]


def _approved() -> dict:
    return {"type": "Approved", "status": "True", "reason": "AutoApproved", "lastUpdateTime": words.now()}


def _running(pod: dict) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"


def _tolerated(pod: dict, taint: dict) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    for each in pod["spec"].get("tolerations") or []:
        if each.get("key") in (None, taint["key"]) and each.get("effect") in (None, "", taint["effect"]):
            return True
    return False
