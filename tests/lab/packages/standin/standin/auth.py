"""Who a request comes from, and what they may do: the few rules a kubeadm cluster starts with."""

import hmac

from standin import store, tokens

ADMINS = "system:masters"
NODES = "system:nodes"
BOOTSTRAPPERS = "system:bootstrappers"
COMPONENTS = {"system:kube-controller-manager", "system:kube-scheduler"}
OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")


class User:
    """A name and its groups."""

    def __init__(self, name: str, groups: list[str]):
        self.name, self.groups = name, groups

    @property
    def node(self) -> str | None:
        return self.name.removeprefix("system:node:") if NODES in self.groups else None


def identify(kept: store.Store, authorization: str | None, certificate: dict | None) -> User:
    """By client certificate (already verified), or by bootstrap token, or nobody."""
    if certificate:
        parts = [pair for part in certificate.get("subject", ()) for pair in part]
        names = [value for field, value in parts if field == "commonName"]
        groups = [value for field, value in parts if field == "organizationName"]
        return User(names[0] if names else "", [*groups, "system:authenticated"])
    if not authorization:
        return User("system:anonymous", ["system:unauthenticated"])
    token = authorization.removeprefix("Bearer ").strip()
    if tokens.FORM.match(token):
        return _by_token(kept, *token.split("."))
    raise store.Problem(401, "Unauthorized", "Unauthorized")


def _by_token(kept: store.Store, identifier: str, value: str) -> User:
    found = kept.find("", "secrets", "kube-system", f"bootstrap-token-{identifier}")
    data = tokens.fields(found) if found else {}
    good = hmac.compare_digest(data.get("token-secret", ""), value) and bool(data)
    if not good or tokens.expired(data) or "authentication" not in tokens.usages(data):
        raise store.Problem(401, "Unauthorized", "Unauthorized")
    extra = [group for group in data.get("auth-extra-groups", "").split(",") if group]
    return User(f"system:bootstrap:{identifier}", [BOOTSTRAPPERS, *extra, "system:authenticated"])


def allow(kept: store.Store, user: User, verb: str, group: str, resource: str, namespace: str, name: str) -> None:
    """Raises if the user may not."""
    if ADMINS in user.groups or user.name in COMPONENTS or _bound_to_admin(kept, user):
        return
    if resource == "configmaps" and namespace == "kube-public" and name == "cluster-info" and verb == "get":
        return
    if user.node and _node_may(user.node, verb, resource, namespace, name):
        return
    if BOOTSTRAPPERS in user.groups and _bootstrapper_may(verb, resource, namespace, name):
        return
    what = f'{resource} "{name}" is forbidden' if name else f"{resource} is forbidden"
    scope = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = f'{store.described(group, what)}: User "{user.name}" cannot {verb} resource "{resource}" in API group "{group}"{scope}'
    raise store.Problem(403, "Forbidden", message)


def _node_may(node: str, verb: str, resource: str, namespace: str, name: str) -> bool:
    if verb in ("get", "list") and resource in ("nodes", "pods", "services", "configmaps", "leases"):
        return True
    if resource == "nodes":
        return verb == "create" or name == node
    if resource == "leases":
        return namespace == "kube-node-lease"
    return resource in ("pods", "events", "certificatesigningrequests")


def _bootstrapper_may(verb: str, resource: str, namespace: str, name: str) -> bool:
    if resource == "certificatesigningrequests":
        return verb in ("create", "get")
    if resource == "nodes":
        return verb == "get"
    return (
        resource == "configmaps"
        and namespace == "kube-system"
        and verb == "get"
        and name in ("kubeadm-config", "kubelet-config", "kube-proxy")
    )


def _bound_to_admin(kept: store.Store, user: User) -> bool:
    for binding in kept.list("rbac.authorization.k8s.io", "clusterrolebindings"):
        if (binding.get("roleRef") or {}).get("name") == "cluster-admin":
            for subject in binding.get("subjects") or []:
                if subject.get("name") in (user.groups if subject.get("kind") == "Group" else [user.name]):
                    return True
    return False
