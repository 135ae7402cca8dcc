"""kubectl: the commands an operator of nodes needs. What it lacks it says."""

import argparse
import json
import os
import pathlib
import sys
import time
import urllib.parse

from standin import client, drain, kubeconfig, release, store, tables, words
from standin.words import Failure, Lacking

NAMES = {
    "no": "nodes",
    "node": "nodes",
    "po": "pods",
    "pod": "pods",
    "cm": "configmaps",
    "configmap": "configmaps",
    "secret": "secrets",
    "ns": "namespaces",
    "namespace": "namespaces",
    "svc": "services",
    "service": "services",
    "deploy": "deployments",
    "deployment": "deployments",
    "ds": "daemonsets",
    "daemonset": "daemonsets",
    "csr": "certificatesigningrequests",
    "lease": "leases",
    "sa": "serviceaccounts",
    "serviceaccount": "serviceaccounts",
    "pdb": "poddisruptionbudgets",
    "ev": "events",
    "event": "events",
}
RESOURCES = {resource: (group, namespaced) for (group, resource), (_, namespaced) in store.RESOURCES.items()}
KINDS = {kind: resource for (_, resource), (kind, _) in store.RESOURCES.items()}


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        if "invalid choice" in message:
            name = message.split("'")[1]
            raise Lacking(f"kubectl {name}")
        if "unrecognized arguments" in message:
            raise Lacking(f"the argument {message.split(': ', 1)[1].split()[0]} of {self.prog}")
        raise Failure(f"error: {message}")


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    try:
        options = parser().parse_args(arguments)
        return options.run(options) or 0
    except Failure as failure:
        print(failure, file=sys.stderr)
    except client.Refused as refusal:
        print(f"Error from server ({refusal.reason or 'Unknown'}): {refusal}", file=sys.stderr)
    except client.Unreachable as problem:
        print(_unreachable(str(problem)), file=sys.stderr)
    except BrokenPipeError:
        pass
    return 1


def _unreachable(problem: str) -> str:
    if "connection refused" in problem:
        where = problem.split("dial tcp ", 1)[1].split(": ", 1)[0]
        return f"The connection to the server {where} was refused - did you specify the right host or port?"
    return "Unable to connect to the server: " + problem.split('": ', 1)[-1]


def parser() -> Parser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--kubeconfig", default=argparse.SUPPRESS)
    shared.add_argument("--request-timeout", default=argparse.SUPPRESS)
    shared.add_argument("-n", "--namespace", default=argparse.SUPPRESS)
    top = Parser(prog="kubectl", description=f"kubectl ({release.NOTICE})", parents=[shared], allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)

    def command(name: str, run) -> Parser:
        made = commands.add_parser(name, parents=[shared], allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    get = command("get", _get)
    get.add_argument("what", nargs="*")
    get.add_argument("--raw")
    get.add_argument("-o", "--output", default="")
    get.add_argument("-A", "--all-namespaces", action="store_true")
    get.add_argument("-l", "--selector", default="")
    get.add_argument("--field-selector", default="")
    get.add_argument("--no-headers", action="store_true")
    get.add_argument("--ignore-not-found", action="store_true")
    get.add_argument("--show-labels", action="store_true")
    delete = command("delete", _delete)
    delete.add_argument("what", nargs="*")
    delete.add_argument("--ignore-not-found", nargs="?", const="true", default="false")
    delete.add_argument("--wait", nargs="?", const="true", default="true")
    delete.add_argument("--timeout", default="0s")
    delete.add_argument("-f", "--filename")
    for name in ("label", "taint", "annotate"):
        change = command(name, _change)
        change.add_argument("kind")
        change.add_argument("rest", nargs="+")
        change.add_argument("--overwrite", nargs="?", const="true", default="false")
    for name in ("cordon", "uncordon"):
        command(name, _cordon).add_argument("node")
    drained = command("drain", lambda options: drain.drain(_api(options), options))
    drained.add_argument("node")
    for flag in ("ignore-daemonsets", "delete-emptydir-data", "force", "disable-eviction"):
        drained.add_argument(f"--{flag}", nargs="?", const="true", default="false")
    drained.add_argument("--timeout", default="0s")
    drained.add_argument("--grace-period", default="-1")
    apply = command("apply", _apply)
    apply.add_argument("-f", "--filename", required=True)
    apply.add_argument("--server-side", action="store_true")
    apply.add_argument("--force-conflicts", action="store_true")
    create = command("create", _create)
    create.add_argument("-f", "--filename", required=True)
    version = command("version", _version)
    version.add_argument("-o", "--output", default="")
    version.add_argument("--client", nargs="?", const="true", default="false")
    wait = command("wait", _wait)
    wait.add_argument("what", nargs="+")
    wait.add_argument("--for", dest="until", required=True)
    wait.add_argument("--timeout", default="30s")
    wait.add_argument("--all", action="store_true")
    wait.add_argument("-A", "--all-namespaces", action="store_true")
    command("cluster-info", _cluster_info)
    config = command("config", _config)
    config.add_argument("what", choices=["view", "current-context"])
    config.add_argument("--raw", action="store_true")
    return top


# --- what commands share


def _access(options: argparse.Namespace) -> kubeconfig.Access:
    given = getattr(options, "kubeconfig", None) or os.environ.get("KUBECONFIG")
    path = pathlib.Path(given or pathlib.Path.home() / ".kube/config")
    try:
        return kubeconfig.read(path)
    except OSError as problem:
        if given:
            raise Failure(f"error: stat {path}: {problem.strerror.lower()}") from problem
        text = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
        raise Failure(text) from problem


def _api(options: argparse.Namespace) -> client.Api:
    timeout = words.seconds(getattr(options, "request_timeout", "0")) or 30
    return client.Api(_access(options), timeout)


def _namespace(options: argparse.Namespace) -> str:
    return getattr(options, "namespace", "default")


def resource(name: str) -> str:
    plain = name.lower().split(".")[0]
    found = NAMES.get(plain, plain)
    if found not in RESOURCES:
        raise Failure(f'error: the server doesn\'t have a resource type "{name}"')
    return found


def collection(name: str, namespace: str | None) -> str:
    group, namespaced = RESOURCES[name]
    base = f"/apis/{group}/v1" if group else "/api/v1"
    return f"{base}/namespaces/{namespace}/{name}" if namespaced and namespace else f"{base}/{name}"


def targets(what: list[str]) -> list[tuple[str, str | None]]:
    """(resource, name) of `nodes`, `node a b`, `node/a pod/b` or `nodes,pods`."""
    if not what:
        raise Failure("error: You must specify the type of resource to get.")
    if "/" in what[0]:
        return [(resource(each.split("/")[0]), each.split("/")[1]) for each in what]
    kinds = [resource(each) for each in what[0].split(",")]
    if len(what) == 1:
        return [(kind, None) for kind in kinds]
    return [(kinds[0], name) for name in what[1:]]


# --- commands


def _get(options: argparse.Namespace) -> int:
    api = _api(options)
    if options.raw:
        code, text = api.raw("GET", options.raw)
        if code >= 400:
            raise client.Refused(json.loads(text) if text.startswith("{") else {"message": text}, code)
        sys.stdout.write(text)
        return 0
    namespace = None if options.all_namespaces else _namespace(options)
    wanted = targets(options.what)
    named = bool(wanted[0][1])
    items, failed = [], 0
    for kind, name in wanted:
        path = collection(kind, namespace)
        try:
            found = [api.get(f"{path}/{name}")] if name else api.items(path + _query(options))
        except client.Refused as refusal:
            if refusal.code != 404:
                raise
            if not options.ignore_not_found:
                print(f"Error from server (NotFound): {refusal}", file=sys.stderr)
                failed = 1
            continue
        items.append((kind, found))
    tables.show(items, options, named and len(wanted) == 1, namespace)
    return failed


def _query(options: argparse.Namespace) -> str:
    query = {"labelSelector": options.selector, "fieldSelector": options.field_selector}
    made = urllib.parse.urlencode({name: value for name, value in query.items() if value})
    return f"?{made}" if made else ""


def _delete(options: argparse.Namespace) -> int:
    api, failed = _api(options), 0
    if options.filename:
        wanted = [(KINDS[each["kind"]], each["metadata"]["name"]) for each in _documents(options.filename)]
    else:
        wanted = targets(options.what)
    for kind, name in wanted:
        if not name:
            raise Failure("error: resource(s) were provided, but no name was specified")
        try:
            api.delete(f"{collection(kind, _namespace(options))}/{name}")
            print(f'{kind.removesuffix("s")} "{name}" deleted', flush=True)
        except client.Refused as refusal:
            if refusal.code == 404 and options.ignore_not_found == "true":
                continue
            print(f"Error from server ({refusal.reason}): {refusal}", file=sys.stderr)
            failed = 1
    return failed


def _change(options: argparse.Namespace) -> None:
    """label, annotate and taint: KEY=VALUE[:EFFECT] adds, KEY[:EFFECT]- removes."""
    api, kind = _api(options), options.kind
    if "/" in kind:
        kind, name = kind.split("/")
        changes = options.rest
    else:
        name, *changes = options.rest
    kind = resource(kind)
    path = f"{collection(kind, _namespace(options))}/{name}"
    item = api.get(path)
    if options.command == "taint":
        api.patch(path, {"spec": {"taints": drain.taints(item, changes)}})
        print(f"node/{name} {'untainted' if all(each.endswith('-') for each in changes) else 'tainted'}")
        return
    field = "labels" if options.command == "label" else "annotations"
    have, patch = item["metadata"].get(field) or {}, {}
    for each in changes:
        key, has_value, value = each.partition("=")
        if not has_value:
            patch[each.removesuffix("-")] = None
        elif key in have and have[key] != value and options.overwrite != "true":
            raise Failure(f"error: '{key}' already has a value ({have[key]}), and --overwrite is false")
        else:
            patch[key] = value
    api.patch(path, {"metadata": {field: patch}})
    done = {"label": "unlabeled" if all(value is None for value in patch.values()) else "labeled", "annotate": "annotated"}
    print(f"{kind.removesuffix('s')}/{name} {done[options.command]}")


def _cordon(options: argparse.Namespace) -> None:
    drain.cordon(_api(options), options.node, options.command == "cordon")


def _documents(filename: str) -> list[dict]:
    text = sys.stdin.read() if filename == "-" else pathlib.Path(filename).read_text()
    documents = [words.load(part) for part in words.split_documents(text)]
    listed = [item for each in documents for item in (each["items"] if each.get("kind") == "List" else [each])]
    for each in listed:
        if each.get("kind") not in KINDS:
            raise Lacking(f"objects of kind {each.get('kind')}")
    return listed


def _place(options: argparse.Namespace, body: dict) -> str:
    return collection(KINDS[body["kind"]], body["metadata"].get("namespace") or _namespace(options))


def _called(body: dict) -> str:
    name = KINDS[body["kind"]]
    group = RESOURCES[name][0]
    return f"{body['kind'].lower()}{f'.{group}' if group else ''}/{body['metadata']['name']}"


def _apply(options: argparse.Namespace) -> None:
    api = _api(options)
    for body in _documents(options.filename):
        place = _place(options, body)
        name = body["metadata"]["name"]
        before = api.find(f"{place}/{name}")
        if before is None:
            api.create(place, body)
            print(f"{_called(body)} {'serverside-applied' if options.server_side else 'created'}")
            continue
        after = api.patch(f"{place}/{name}", body, client.STRATEGIC)
        same = {**before, "metadata": None} == {**after, "metadata": None}
        print(f"{_called(body)} {'serverside-applied' if options.server_side else 'unchanged' if same else 'configured'}")


def _create(options: argparse.Namespace) -> None:
    api = _api(options)
    for body in _documents(options.filename):
        api.create(_place(options, body), body)
        print(f"{_called(body)} created")


def _version(options: argparse.Namespace) -> None:
    release.notice()
    found = {"clientVersion": release.info(), "kustomizeVersion": "none"}
    if options.client != "true":
        found["serverVersion"] = _api(options).get("/version")
    if options.output == "json":
        print(json.dumps(found, indent=2))
    elif options.output == "yaml":
        print(words.dump(found))
    else:
        print(f"Client Version: {release.VERSION}\nKustomize Version: none")
        if "serverVersion" in found:
            print(f"Server Version: {found['serverVersion']['gitVersion']}")


def _wait(options: argparse.Namespace) -> None:
    api, end = _api(options), time.monotonic() + words.seconds(options.timeout)
    namespace = None if options.all_namespaces else _namespace(options)
    wanted = targets(options.what)
    if options.all:
        kind = wanted[0][0]
        wanted = [(kind, item["metadata"]["name"]) for item in api.items(collection(kind, namespace))]
    for kind, name in wanted:
        while not _met(api.find(f"{collection(kind, namespace)}/{name}"), options.until, kind, name):
            if time.monotonic() > end:
                raise Failure(f"error: timed out waiting for the condition on {kind}/{name}")
            time.sleep(0.5)
        print(f"{kind.removesuffix('s')}/{name} {'deleted' if options.until == 'delete' else 'condition met'}", flush=True)


def _met(item: dict | None, until: str, kind: str, name: str) -> bool:
    if until == "delete":
        return item is None
    if item is None:
        raise Failure(f'Error from server (NotFound): {kind} "{name}" not found')
    if not until.startswith("condition="):
        raise Lacking(f"wait --for={until}")
    wanted, _, value = until.removeprefix("condition=").partition("=")
    conditions = (item.get("status") or {}).get("conditions", [])
    return any(each["type"].lower() == wanted.lower() and each["status"].lower() == (value or "true").lower() for each in conditions)


def _cluster_info(options: argparse.Namespace) -> None:
    access = _access(options)
    client.Api(access).get("/version")
    print(f"Kubernetes control plane is running at {access.server}")


def _config(options: argparse.Namespace) -> None:
    path = getattr(options, "kubeconfig", None) or os.environ.get("KUBECONFIG") or pathlib.Path.home() / ".kube/config"
    document = words.load(pathlib.Path(path).read_text())
    print(
        document["current-context"] if options.what == "current-context" else words.dump(document),
        end="" if options.what == "view" else "\n",
    )
