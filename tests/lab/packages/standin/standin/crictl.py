"""crictl: asks the real runtime at its socket. Only questions, and the removal of pods."""

import argparse
import json
import pathlib
import sys

from standin import cri, release, words

CONFIG = pathlib.Path("/etc/crictl.yaml")
DEFAULT = "unix:///run/containerd/containerd.sock"
STATES = ("Created", "Running", "Exited", "Unknown")


def main() -> None:
    options = _arguments().parse_args()
    try:
        _run(options, cri.Runtime(_endpoint(options)))
    except cri.NotRunning as problem:
        print(f'time="{words.now()}" level=fatal msg={words.quoted(str(problem))}', file=sys.stderr)
        sys.exit(1)


def _endpoint(options: argparse.Namespace) -> str:
    configured = words.load(CONFIG.read_text()) if CONFIG.exists() else {}
    return options.runtime_endpoint or (configured or {}).get("runtime-endpoint") or DEFAULT


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crictl", description=f"crictl ({release.NOTICE})")
    parser.add_argument("-r", "--runtime-endpoint")
    parser.add_argument("-i", "--image-endpoint")
    parser.add_argument("-t", "--timeout")
    parser.add_argument("-v", "--version", action="version", version=f"crictl version v1.28.0 ({release.NOTICE})")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version")
    info = commands.add_parser("info")
    info.add_argument("-o", "--output", default="json")
    for name in ("ps", "pods", "images"):
        command = commands.add_parser(name)
        command.add_argument("-a", "--all", action="store_true")
        command.add_argument("-q", "--quiet", action="store_true")
        command.add_argument("-o", "--output", default="table")
        command.add_argument("--name", default="")
    for name in ("stopp", "rmp"):
        command = commands.add_parser(name)
        command.add_argument("-f", "--force", action="store_true")
        command.add_argument("-a", "--all", action="store_true")
        command.add_argument("pods", nargs="*")
    return parser


def _run(options: argparse.Namespace, runtime: cri.Runtime) -> None:
    if options.command == "version":
        name, version = runtime.version()
        print(f"Version:  0.1.0\nRuntimeName:  {name}\nRuntimeVersion:  {version}\nRuntimeApiVersion:  v1")
    elif options.command == "info":
        conditions = [
            {"type": kind, "status": good, "reason": reason, "message": text} for kind, (good, reason, text) in runtime.conditions().items()
        ]
        print(json.dumps({"status": {"conditions": conditions}}, indent=2))
    elif options.command in ("stopp", "rmp"):
        for pod in options.pods or [each["id"] for each in runtime.sandboxes() if options.all]:
            runtime.stop(pod)
            print(f"Stopped sandbox {pod}")
            if options.command == "rmp":
                runtime.remove(pod)
                print(f"Removed sandbox {pod}")
    else:
        _list(options, runtime)


def _list(options: argparse.Namespace, runtime: cri.Runtime) -> None:
    items = {"ps": runtime.containers, "pods": runtime.sandboxes, "images": runtime.images}[options.command]()
    if options.command == "ps" and not options.all:
        items = [item for item in items if item["state"] == 1]
    items = [item for item in items if options.name in item.get("name", "")]
    if options.output == "json":
        key = {"ps": "containers", "pods": "items", "images": "images"}[options.command]
        print(json.dumps({key: items}, indent=2))
        return
    if options.quiet:
        print("".join(f"{item['id']}\n" for item in items), end="")
        return
    heads = {"ps": "CONTAINER\tSTATE\tNAME", "pods": "POD ID\tSTATE\tNAME\tNAMESPACE", "images": "IMAGE\tSIZE"}
    print(heads[options.command])
    for item in items:
        if options.command == "images":
            print(f"{' '.join(item['tags'])}\t{item['size']}")
        elif options.command == "ps":
            print(f"{item['id'][:13]}\t{STATES[item['state']]}\t{item['name']}")
        else:
            print(f"{item['id'][:13]}\t{'Ready' if item['ready'] else 'NotReady'}\t{item['name']}\t{item['namespace']}")
