"""The lab's command line; `scripts/lab.sh` runs it in the right environment. See ../README.md for the verbs."""

import argparse
import asyncio
import base64
import json
import pathlib
import sys

from . import image, launch, parts
from .launch import CannotLaunch
from .settings import BACKENDS, Settings, cache


def main() -> int:
    options = arguments()
    try:
        return options.run(options) or 0
    except (CannotLaunch, *parts.CANNOT_BUILD) as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/lab.sh", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text)
        made.set_defaults(run=run)
        if name not in ("prepare", "kubernetes"):
            made.add_argument("--dir", required=True, type=lambda text: pathlib.Path(text).resolve())
        return made

    prepares = verb("prepare", prepare, "build everything a lab needs: machine image, Kubernetes, packages")
    prepares.add_argument("--kubernetes", default=parts.DEFAULT, metavar="VERSION,...", help="as for start")
    builds = verb("kubernetes", build_kubernetes, "build Kubernetes, and say what the cache holds")
    builds.add_argument(
        *("--minor", "--version"), dest="wanted", action="append", metavar="VERSION",
        help="1.36, or 1.36.4 for the code of 1.36 that calls itself so; more than once for several",
    )
    builds.add_argument("--with", dest="extra", action="append", default=[], choices=parts.extras(), metavar="PROGRAM")
    builds.add_argument("--nearest", action="store_true", help="build nothing: say which one is had without, for --kubernetes of start")
    start = verb("start", start_lab, "start a lab; returns when its API answers")
    start.add_argument("--backend", choices=BACKENDS, default="nspawn")
    start.add_argument("--name", default="lab")
    start.add_argument(
        "--kubernetes", default=parts.DEFAULT, metavar="VERSION,...",
        help="what its repository and registry hold: minor releases or versions, the first for quickstart, and "
        f"{' or '.join(parts.extras())}; upstream for the Kubernetes project's own; or none",
    )
    start.add_argument("--keep-uploads", action="store_true", help="keep a copy of every uploaded file")
    start.add_argument("--guests", type=int, default=0, metavar="N", help="begin with N stopped VMs")
    start.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="added to every answer")
    serve = verb("serve", serve_lab, argparse.SUPPRESS)
    serve.add_argument("--number", type=int, required=True)
    for name, backend_kind in (("backend", str), ("name", str), ("guests", int), ("latency", float)):
        serve.add_argument(f"--{name}", type=backend_kind)
    serve.add_argument("--keep-uploads", action="store_true")
    serve.add_argument("--kubernetes", default="none")
    verb("stop", stop_lab, "stop it and say what is left, which is nothing")
    verb("status", lambda o: show(call(o, "status")), "one line about a running lab")
    listing = verb("list", list_lab, "VMs, volumes and machines")
    listing.add_argument("--json", action="store_true")
    execute = verb("exec", exec_in, "run a program in a machine: exec VM -- PROGRAM ARGUMENT...")
    execute.add_argument("vm")
    execute.add_argument("argv", nargs=argparse.REMAINDER)
    power = verb("power", lambda o: show(call(o, "power", vm=o.vm, state=o.state)), "pull or put the plug")
    power.add_argument("vm")
    power.add_argument("state", choices=("on", "off"))
    fault = verb("fault", lambda o: show(call(o, "fault", words=o.words)), "cause trouble; `fault clear` ends it")
    fault.add_argument("words", nargs="+")
    create = verb("create-vm", lambda o: show(call(o, "create_vm", vmid=o.vmid, name=o.name)), "a stranger's VM")
    create.add_argument("vmid", type=int)
    create.add_argument("name")
    administer = verb("api", call_api, "an administrator's API call: api METHOD PATH KEY=VALUE...; waits for its task")
    administer.add_argument("method")
    administer.add_argument("path")
    administer.add_argument("values", nargs="*")
    uploads = verb("uploads", print_uploads, "a file of every seed uploaded (with --keep-uploads)")
    uploads.add_argument("file")
    requests = verb("requests", print_requests, "how often each API call was made")
    requests.add_argument("--json", action="store_true")
    requests.add_argument("--reset", action="store_true")
    return parser.parse_args()


def prepare(options) -> None:
    print(image.get(cache()).folder)
    built = parts.build(parts.wanted(options.kubernetes))
    print(built.repository.folder)


def build_kubernetes(options) -> None:
    if options.nearest:
        print(parts.nearest())
        return
    parts.build((*(options.wanted or (parts.DEFAULT,)), *options.extra))
    print(parts.sizes())


def start_lab(options) -> None:
    settings = {key: getattr(options, key) for key in ("backend", "name", "keep_uploads", "guests", "latency", "kubernetes")}
    if options.backend != "none":
        # Here and not in the lab's own process: it takes minutes the first time, and says so.
        image.get(cache())
        parts.build(parts.wanted(options.kubernetes))
    facts = launch.start(options.dir, settings)
    print(f"lab {facts['name']} ({facts['backend']}): {facts['env']['GROUNDWORK_PROXMOX_ENDPOINTS']}")
    print(f"  set -a; source {options.dir}/lab.env; set +a")


def serve_lab(options) -> None:
    from .daemon import serve

    asyncio.run(
        serve(
            Settings(
                folder=options.dir,
                name=options.name,
                backend=options.backend,
                number=options.number,
                keep_uploads=options.keep_uploads,
                guests=options.guests or 0,
                latency=options.latency or 0.0,
                kubernetes=parts.wanted(options.kubernetes),
            )
        )
    )


def stop_lab(options) -> int:
    left = launch.stop(options.dir)
    for line in left:
        print(f"left behind: {line}", file=sys.stderr)
    if not left:
        print("the lab is gone: no process, mount, network, control group or file is left")
    return 1 if left else 0


def call(options, verb: str, **values) -> dict:
    return launch.call(options.dir, verb, **values)


def show(answer: dict) -> None:
    for key, value in answer.items():
        print(f"{key}: {value}")


def list_lab(options) -> None:
    answer = call(options, "list")
    if options.json:
        print(json.dumps(answer))
        return
    for vm in answer["vms"]:
        print(f"vm      {vm['vmid']:>6} {vm['status']:<8} {vm['node']} {vm['name']}")
    for volume in answer["volumes"]:
        print(f"volume  {volume}")


def exec_in(options) -> int:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    stdin = b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()
    answer = call(options, "exec", vm=options.vm, argv=argv, stdin=base64.b64encode(stdin).decode())
    sys.stdout.buffer.write(base64.b64decode(answer["out"]))
    sys.stdout.flush()
    sys.stderr.buffer.write(base64.b64decode(answer["err"]))
    return answer["code"]


def call_api(options) -> None:
    values = dict(value.partition("=")[::2] for value in options.values)
    print(json.dumps(call(options, "api", method=options.method, path=options.path, values=values)["data"]))


def print_uploads(options) -> None:
    for text in call(options, "uploads", file=options.file)["files"]:
        try:
            text = json.dumps(json.loads(text))
        except ValueError:
            pass
        print(text)


def print_requests(options) -> None:
    answer = call(options, "requests", reset=options.reset)
    if options.json:
        print(json.dumps(answer))
        return
    for row in answer["requests"]:
        print(f"{row['count']:>7} {row['method']:<6} {row['path']}")
    print(f"{answer['total']:>7} in all")


if __name__ == "__main__":
    sys.exit(main())
