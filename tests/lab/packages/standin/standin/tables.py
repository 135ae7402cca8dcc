"""kubectl's output: tables, names, JSON, YAML and simple JSONPath."""

import argparse
import datetime
import json
import re
import sys

from standin import store, words
from standin.words import Lacking

ROLE = "node-role.kubernetes.io/"
KINDS = {resource: kind for (_, resource), (kind, _) in store.RESOURCES.items()}
SINGULAR = {resource: kind.lower() for resource, kind in KINDS.items()}
GROUPS = {resource: group for group, resource in store.RESOURCES}


def show(found: list[tuple[str, list[dict]]], options: argparse.Namespace, single: bool, namespace: str | None) -> None:
    items = [item for _, part in found for item in part]
    output = options.output
    if output in ("json", "yaml"):
        value = items[0] if single and items else {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
        print(json.dumps(value, indent=4, sort_keys=True) if output == "json" else words.dump(value), end="\n" if output == "json" else "")
    elif output == "name":
        for kind, part in found:
            for item in part:
                print(f"{_prefix(kind)}/{item['metadata']['name']}")
    elif output.startswith("jsonpath="):
        value = items[0] if single and items else {"items": items}
        print(json_path(value, output.removeprefix("jsonpath=")), end="")
    elif output in ("", "wide"):
        _tables(found, options, single, namespace)
    else:
        raise Lacking(f"the output format {output}")


def _prefix(kind: str) -> str:
    return f"{SINGULAR[kind]}.{GROUPS[kind]}" if GROUPS[kind] else SINGULAR[kind]


def _tables(found: list[tuple[str, list[dict]]], options: argparse.Namespace, single: bool, namespace: str | None) -> None:
    if not any(part for _, part in found):
        if not single and not options.ignore_not_found:
            namespaced = store.RESOURCES[GROUPS[found[0][0]], found[0][0]][1] if found else False
            where = f" in {namespace} namespace." if namespace and namespaced else ""
            print(f"No resources found{where}", file=sys.stderr)
        return
    many = len(found) > 1
    for index, (kind, items) in enumerate(part for part in found if part[1]):
        if index:
            print()
        rows = [ROWS.get(kind, _plain)(item, options.output == "wide") for item in items]
        heads = list(rows[0])
        if many:
            rows = [{**row, "NAME": f"{_prefix(kind)}/{row['NAME']}"} for row in rows]
        if options.all_namespaces and store.RESOURCES[GROUPS[kind], kind][1]:
            heads = ["NAMESPACE", *heads]
            rows = [{"NAMESPACE": item["metadata"].get("namespace", ""), **row} for item, row in zip(items, rows)]
        if options.show_labels:
            heads = [*heads, "LABELS"]
            rows = [{**row, "LABELS": _labels(item)} for item, row in zip(items, rows)]
        _print(heads, [[str(row[head]) for head in heads] for row in rows], options.no_headers)


def _labels(item: dict) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((item["metadata"].get("labels") or {}).items())) or "<none>"


def _print(heads: list[str], rows: list[list[str]], bare: bool) -> None:
    shown = rows if bare else [heads, *rows]
    widths = [max(len(row[column]) for row in shown) + 3 for column in range(len(heads))]
    for row in shown:
        print("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths)) + row[-1])


def age(stamp: str | None) -> str:
    """As kubectl shortens durations."""
    if not stamp:
        return "<unknown>"
    total = int((datetime.datetime.now(datetime.timezone.utc) - words.moment(stamp)).total_seconds())
    if total < 120:
        return f"{max(total, 0)}s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def _plain(item: dict, wide: bool) -> dict:
    return {"NAME": item["metadata"]["name"], "AGE": age(item["metadata"].get("creationTimestamp"))}


def _node(item: dict, wide: bool) -> dict:
    status = item.get("status") or {}
    ready = next((each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"), "Unknown")
    state = "Ready" if ready == "True" else "NotReady"
    if item["spec"].get("unschedulable"):
        state += ",SchedulingDisabled"
    roles = sorted(label.removeprefix(ROLE) for label in item["metadata"].get("labels") or {} if label.startswith(ROLE))
    info = status.get("nodeInfo") or {}
    row = {
        "NAME": item["metadata"]["name"],
        "STATUS": state,
        "ROLES": ",".join(roles) or "<none>",
        "AGE": age(item["metadata"].get("creationTimestamp")),
        "VERSION": info.get("kubeletVersion", ""),
    }
    if wide:
        address = next((each["address"] for each in status.get("addresses", []) if each["type"] == "InternalIP"), "<none>")
        row |= {"INTERNAL-IP": address, "EXTERNAL-IP": "<none>", "OS-IMAGE": info.get("osImage", "<unknown>")}
        row |= {
            "KERNEL-VERSION": info.get("kernelVersion", "<unknown>"),
            "CONTAINER-RUNTIME": info.get("containerRuntimeVersion", "<unknown>"),
        }
    return row


def _pod(item: dict, wide: bool) -> dict:
    status = item.get("status") or {}
    statuses = status.get("containerStatuses", [])
    ready = sum(1 for each in statuses if each["ready"])
    row = {
        "NAME": item["metadata"]["name"],
        "READY": f"{ready}/{len(item['spec'].get('containers', []))}",
        "STATUS": status.get("phase", "Pending"),
        "RESTARTS": sum(each.get("restartCount", 0) for each in statuses),
        "AGE": age(item["metadata"].get("creationTimestamp")),
    }
    if wide:
        row |= {"IP": status.get("podIP", "<none>"), "NODE": item["spec"].get("nodeName", "<none>")}
        row |= {"NOMINATED NODE": "<none>", "READINESS GATES": "<none>"}
    return row


def _secret(item: dict, wide: bool) -> dict:
    row = _plain(item, wide)
    return {"NAME": row["NAME"], "TYPE": item.get("type", "Opaque"), "DATA": len(item.get("data") or {}), "AGE": row["AGE"]}


def _config_map(item: dict, wide: bool) -> dict:
    row = _plain(item, wide)
    return {"NAME": row["NAME"], "DATA": len(item.get("data") or {}), "AGE": row["AGE"]}


def _request(item: dict, wide: bool) -> dict:
    row, status = _plain(item, wide), item.get("status") or {}
    states = [each["type"] for each in status.get("conditions", [])] + (["Issued"] if status.get("certificate") else [])
    made = {"NAME": row["NAME"], "AGE": row["AGE"], "SIGNERNAME": item["spec"].get("signerName", "")}
    return made | {"REQUESTOR": item["spec"].get("username", ""), "REQUESTEDDURATION": "<none>", "CONDITION": ",".join(states) or "Pending"}


def _namespace(item: dict, wide: bool) -> dict:
    row = _plain(item, wide)
    return {"NAME": row["NAME"], "STATUS": (item.get("status") or {}).get("phase", "Active"), "AGE": row["AGE"]}


ROWS = {
    "nodes": _node,
    "pods": _pod,
    "secrets": _secret,
    "configmaps": _config_map,
    "certificatesigningrequests": _request,
    "namespaces": _namespace,
}


# --- JSONPath: fields, indexes, [*], a filter on equality, {range}, text


def json_path(value, template: str) -> str:
    return "".join(_render(part, value) for part in _parse(template))


def _parse(template: str) -> list:
    """Texts, expressions, and (range, body) pairs."""
    tokens = [token for token in re.split(r"(\{[^{}]*\})", template) if token]
    return _sequence(tokens)


def _sequence(tokens: list[str]) -> list:
    made = []
    while tokens:
        token = tokens.pop(0)
        inner = token[1:-1].strip() if token.startswith("{") else None
        if inner is None:
            made.append(("text", token.replace("\\n", "\n").replace("\\t", "\t")))
        elif inner == "end":
            return made
        elif inner.startswith("range "):
            made.append(("range", inner.removeprefix("range ").strip(), _sequence(tokens)))
        elif inner[:1] in "\"'":
            made.append(("text", inner[1:-1].replace("\\n", "\n").replace("\\t", "\t")))
        else:
            made.append(("path", inner))
    return made


def _render(part: tuple, value) -> str:
    if part[0] == "text":
        return part[1]
    if part[0] == "range":
        return "".join(_render(each, item) for item in select(value, part[1]) for each in part[2])
    shown = [item if isinstance(item, str) else json.dumps(item, separators=(",", ":")) for item in select(value, part[1])]
    return " ".join(shown)


STEP = re.compile(r"\.?([A-Za-z0-9_\-/]+(?:\\\.[A-Za-z0-9_\-/]+)*)|\[(\d+|\*|'[^']+'|\?\(@\.[^)]+\))\]")


def select(value, path: str) -> list:
    path = path.removeprefix("$")
    found, position = [value], 0
    while position < len(path) and path[position:] not in (".", ""):
        step = STEP.match(path, position)
        if not step:
            raise Lacking(f"the JSONPath {path}")
        position = step.end()
        found = [each for item in found for each in _step(item, step)]
    return [item for item in found if item is not None]


def _step(item, step: re.Match) -> list:
    if step[1]:
        name = step[1].replace("\\.", ".")
        return [item[name]] if isinstance(item, dict) and name in item else []
    inside = step[2]
    if inside == "*":
        return list(item.values()) if isinstance(item, dict) else list(item or [])
    if inside.startswith("'"):
        return [item[inside[1:-1]]] if inside[1:-1] in item else []
    if inside.isdigit():
        return [item[int(inside)]] if int(inside) < len(item) else []
    field, wanted = re.fullmatch(r"""\?\(@\.([A-Za-z0-9_]+)\s*==\s*["'](.*)["']\)""", inside).groups()
    return [each for each in item or [] if str(each.get(field)) == wanted]
