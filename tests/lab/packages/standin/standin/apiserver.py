"""The API server: HTTPS with the certificates kubeadm made, objects in a Store, no watches and no tables."""

import base64
import datetime
import http.server
import json
import socket
import ssl
import sys
import urllib.parse

from standin import auth, controllers, paths, release, store, tokens, words

SUBRESOURCES = {"status", "eviction", "approval", "binding", "scale"}


class Target:
    """What a path under /api or /apis names."""

    def __init__(self, path: str):
        parts = path.strip("/").split("/")
        self.group = parts[1] if parts[0] == "apis" else ""
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        self.namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in SUBRESOURCES:
            self.namespace, rest = rest[1], rest[2:]
        self.resource, self.name, self.sub = (rest + ["", "", ""])[:3]
        if (self.group, self.resource) not in store.RESOURCES:
            message = f"the server could not find the requested resource ({release.NOTICE}: it knows no {store.described(self.group, self.resource)})"
            raise store.Problem(404, "NotFound", message)
        self.kind, self.namespaced = store.RESOURCES[self.group, self.resource]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.group, self.resource, self.namespace


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def setup(self) -> None:
        # In the connection's own thread: whoever connects and stays silent stops nobody else.
        self.request.settimeout(30)
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        try:
            self.request.close()
        except OSError:
            pass

    def log_message(self, format: str, *arguments) -> None:
        if self.server.verbose:
            sys.stderr.write(f"{self.command} {self.path} {arguments[1] if len(arguments) > 1 else ''}\n")

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else b""
        try:
            url = urllib.parse.urlsplit(self.path)
            query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
            user = auth.identify(self.server.kept, self.headers.get("Authorization"), self.request.getpeercert())
            code, body = self.dispatch(user, url.path.rstrip("/") or "/", query, content)
        except store.Problem as problem:
            code, body = problem.code, problem.status()
        except (ValueError, KeyError, TypeError) as problem:
            code, body = 400, store.Problem(400, "BadRequest", f"the request cannot be read: {problem!r}").status()
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def dispatch(self, user: auth.User, path: str, query: dict, content: bytes) -> tuple[int, object]:
        if path.startswith(auth.OPEN_PATHS):
            return 200, release.info(self.server.version) if path == "/version" else "ok"
        if path in ("/api", "/apis") or path.count("/") == (2 if path.startswith("/api/") else 3):
            return 200, _discovery(path)
        if not path.startswith(("/api/", "/apis/")):
            raise store.Problem(404, "NotFound", "the server could not find the requested resource")
        target = Target(path)
        verb = _verb(self.command, target)
        auth.allow(self.server.kept, user, verb, target.group, target.resource, target.namespace, target.name)
        if query.get("watch") in ("true", "1"):
            raise store.Problem(405, "MethodNotAllowed", f"{release.NOTICE}: it lacks watches")
        body = _decode(content)
        return getattr(self, f"on_{verb}")(target, query, body, user)

    def on_get(self, target: Target, query: dict, body, user) -> tuple[int, object]:
        return 200, self.server.kept.get(*target.key, target.name)

    def on_list(self, target: Target, query: dict, body, user) -> tuple[int, object]:
        items = self.server.kept.list(*target.key)
        chosen = [item for item in items if _matches(item, query.get("labelSelector"), query.get("fieldSelector"))]
        kind, version = f"{target.kind}List", store.api_version(target.group)
        return 200, {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": str(self.server.kept.version)}, "items": chosen}

    def on_create(self, target: Target, query: dict, body: dict, user: auth.User) -> tuple[int, object]:
        if target.sub == "eviction":
            return 201, self.evict(target)
        _check_kind(target, body)
        if target.resource == "certificatesigningrequests":
            body.setdefault("spec", {})["username"] = user.name
            if not controllers.may_be_signed(body, user):
                raise store.Problem(403, "Forbidden", f"{release.NOTICE}: it signs requests of kubelets only")
        if target.resource == "nodes" and user.node and body["metadata"]["name"] != user.node:
            raise store.Problem(
                403, "Forbidden", f'nodes "{body["metadata"]["name"]}" is forbidden: node "{user.node}" is not allowed to modify node'
            )
        if target.namespace and not self.server.kept.find("", "namespaces", "", target.namespace):
            raise store.Problem(404, "NotFound", f'namespaces "{target.namespace}" not found')
        _remember_token(body)
        return 201, self.server.kept.create(*target.key, _prepared(target, body))

    def on_update(self, target: Target, query: dict, body: dict, user) -> tuple[int, object]:
        _check_kind(target, body)
        _remember_token(body)
        return 200, self.server.kept.replace(*target.key, target.name, _prepared(target, body))

    def on_patch(self, target: Target, query: dict, body, user) -> tuple[int, object]:
        kind = (self.headers.get("Content-Type") or "").split(";")[0]
        with self.server.kept.lock:
            before = self.server.kept.find(*target.key, target.name)
            if before is None and kind == "application/apply-patch+yaml":
                return 201, self.server.kept.create(*target.key, _prepared(target, body))
            before = before or self.server.kept.get(*target.key, target.name)
            if kind == "application/json-patch+json":
                after = store.json_patch(before, body)
            else:
                after = store.merge(before, body, strategic=kind.startswith(("application/strategic", "application/apply")))
            after["metadata"].pop("resourceVersion", None)
            return 200, self.server.kept.replace(*target.key, target.name, after)

    def on_delete(self, target: Target, query: dict, body, user) -> tuple[int, object]:
        gone = self.server.kept.delete(*target.key, target.name)
        details = {"name": target.name, "kind": target.resource, "uid": gone["metadata"]["uid"]}
        return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def evict(self, target: Target) -> dict:
        self.server.kept.delete(*target.key, target.name)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _verb(method: str, target: Target) -> str:
    if method == "GET":
        return "get" if target.name else "list"
    if method == "DELETE" and not target.name:
        raise store.Problem(405, "MethodNotAllowed", f"{release.NOTICE}: it lacks deleting whole collections")
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


def _decode(content: bytes):
    if not content:
        return {}
    try:
        return json.loads(content)
    except ValueError:
        return words.load(content.decode())


def _remember_token(body: dict) -> None:
    """Keeps every bootstrap token there ever was, for the test that searches states and logs for them."""
    if body.get("type") == "bootstrap.kubernetes.io/token":
        data = tokens.fields(body)
        paths.SEEN_TOKENS.parent.mkdir(parents=True, exist_ok=True)
        with paths.SEEN_TOKENS.open("a") as file:
            file.write(f"{data.get('token-id')}.{data.get('token-secret')}\n")


def _check_kind(target: Target, body: dict) -> None:
    if body.get("kind") not in (None, target.kind):
        message = f"the kind in the data ({body['kind']}) does not match the expected kind ({target.kind})"
        raise store.Problem(400, "BadRequest", message)


def _prepared(target: Target, body: dict) -> dict:
    """What admission and conversion would do: a Secret's plain strings are encoded."""
    made = dict(body)
    if target.resource == "secrets" and made.get("stringData"):
        plain = made.pop("stringData")
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()}
        made["data"] = {**(made.get("data") or {}), **encoded}
    if target.resource == "namespaces":
        made.setdefault("status", {"phase": "Active"})
    return made


def _matches(item: dict, labels: str | None, fields: str | None) -> bool:
    have = item["metadata"].get("labels") or {}
    for part in filter(None, (labels or "").split(",")):
        if "!=" in part:
            name, value = part.split("!=", 1)
            if have.get(name.strip()) == value.strip():
                return False
        elif "=" in part:
            name, value = part.replace("==", "=").split("=", 1)
            if have.get(name.strip()) != value.strip():
                return False
        elif part.startswith("!"):
            if part[1:].strip() in have:
                return False
        elif part.strip() not in have:
            return False
    return all(_field(item, part) for part in filter(None, (fields or "").split(",")))


def _field(item: dict, part: str) -> bool:
    negated = "!=" in part
    path, value = part.split("!=", 1) if negated else part.replace("==", "=").split("=", 1)
    found = item
    for name in path.split("."):
        found = (found or {}).get(name) if isinstance(found, dict) else None
    return (str(found or "") == value) != negated


def _discovery(path: str) -> dict:
    groups = sorted({group for group, _ in store.RESOURCES if group})
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        version = lambda group: {"groupVersion": f"{group}/v1", "version": "v1"}
        listed = [{"name": group, "versions": [version(group)], "preferredVersion": version(group)} for group in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    group = path.split("/")[2] if path.startswith("/apis/") else ""
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    resources = [
        {"name": resource, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
        for (owner, resource), (kind, namespaced) in store.RESOURCES.items()
        if owner == group
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": store.api_version(group), "resources": resources}


class Server(http.server.ThreadingHTTPServer):
    """Listens on `port`; the objects survive in `kept`'s file."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], kept: store.Store, version: str, verbose: bool = False):
        self.kept, self.version, self.verbose = kept, version, verbose
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(paths.PKI / "apiserver.crt", paths.PKI / "apiserver.key")
        self.tls.load_verify_locations(paths.PKI / "ca.crt")
        self.tls.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(address, Handler)
        self.begin()

    def begin(self) -> None:
        """What a cluster has from the start."""
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            if not self.kept.find("", "namespaces", "", name):
                self.kept.create("", "namespaces", "", {"metadata": {"name": name}, "status": {"phase": "Active"}})
        admin = {
            "metadata": {"name": "cluster-admin"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "Group", "name": auth.ADMINS, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        if not self.kept.find("rbac.authorization.k8s.io", "clusterrolebindings", "", "cluster-admin"):
            self.kept.create("rbac.authorization.k8s.io", "clusterrolebindings", "", admin)

    def handle_error(self, request, client_address) -> None:
        if self.verbose:
            now = datetime.datetime.now().isoformat(timespec="seconds")
            sys.stderr.write(f"{now} {client_address}: {sys.exc_info()[1]!r}\n")


def listen(address: str, port: int) -> socket.socket:
    """A port of a component that is not there: it is taken, and answers nothing."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind((address, port))
    taken.listen(16)
    return taken
