"""kubeadm: the command line. What a command does is in the module of its name."""

import argparse
import json
import sys

from standin import kubeadm_config, kubeadm_init, kubeadm_join, kubeadm_node, kubeadm_token, release, words
from standin.words import Failure, Lacking


class Parser(argparse.ArgumentParser):
    """Errors in the words of the real program, whose every wrong argument ends with 1."""

    def error(self, message: str):
        if "invalid choice" in message:
            name = message.split("'")[1]
            raise Failure(f"unknown command {words.quoted(name)} for {words.quoted(self.prog)}")
        if "unrecognized arguments" in message:
            flag = message.split(": ", 1)[1].split()[0]
            short = flag.startswith("-") and not flag.startswith("--")
            raise Failure(f"unknown shorthand flag: '{flag[1]}' in {flag}" if short else f"unknown flag: {flag.split('=')[0]}")
        raise Failure(message)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    try:
        options = parser().parse_args(arguments)
        options.run(options)
        return 0
    except Failure as failure:
        print(f"{failure}\nTo see the stack trace of this error execute with --v=5 or higher", file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        return 1


def parser() -> Parser:
    top = Parser(prog="kubeadm", description=f"kubeadm ({release.NOTICE})", allow_abbrev=False)
    top.add_argument("--v", "-v", dest="verbosity", default="0", help=argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    _version(commands)
    _init(commands)
    _join(commands)
    _reset(commands)
    _token(commands)
    _config(commands)
    _certs(commands)
    _kubeconfig(commands)
    lacking = commands.add_parser("upgrade", allow_abbrev=False)
    lacking.add_argument("rest", nargs=argparse.REMAINDER)
    lacking.set_defaults(run=_no_upgrade)
    return top


def _no_upgrade(options: argparse.Namespace) -> None:
    raise Lacking("kubeadm upgrade")


def _version(commands) -> None:
    command = _command(commands, "version", _print_version)
    command.add_argument("-o", "--output", default="")


def _print_version(options: argparse.Namespace) -> None:
    release.notice()
    if options.output == "short":
        words.out(release.VERSION)
    elif options.output == "json":
        words.out(release.info_json())
    elif options.output == "yaml":
        words.out(words.dump({"clientVersion": release.info()}))
    elif options.output == "":
        fields = ", ".join(f"{name[0].upper()}{name[1:]}:{words.quoted(value)}" for name, value in release.info().items())
        words.out(f"kubeadm version: &version.Info{{{fields}}}")
    else:
        raise Failure(f"invalid output format: {options.output}")


def _command(commands, name: str, run) -> Parser:
    command = commands.add_parser(name, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("--v", "-v", dest="verbosity", default="0", help=argparse.SUPPRESS)
    return command


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _init_flags(command: Parser) -> None:
    command.add_argument("--config")
    for name in ("apiserver-advertise-address", "control-plane-endpoint", "kubernetes-version", "node-name", "pod-network-cidr"):
        command.add_argument(f"--{name}")
    for name in ("service-cidr", "service-dns-domain", "token", "token-ttl", "certificate-key", "cri-socket", "image-repository"):
        command.add_argument(f"--{name}")
    for name in ("cert-dir", "patches", "feature-gates"):
        command.add_argument(f"--{name}")
    command.add_argument("--apiserver-bind-port", type=int)
    command.add_argument("--apiserver-cert-extra-sans", type=_list, default=[])
    command.add_argument("--ignore-preflight-errors", type=_list, default=[])
    command.add_argument("--skip-phases", type=_list, default=[])
    for name in ("upload-certs", "skip-token-print", "skip-certificate-key-print", "dry-run"):
        command.add_argument(f"--{name}", action="store_true")


def _init(commands) -> None:
    command = _command(commands, "init", kubeadm_init.init)
    _init_flags(command)
    phases = command.add_subparsers(dest="sub", parser_class=Parser).add_parser("phase", allow_abbrev=False)
    each = phases.add_subparsers(dest="phase", required=True, parser_class=Parser)
    for name, run in kubeadm_init.PHASES.items():
        phase = _command(each, name, run)
        phase.add_argument("part", nargs="?", default="all")
        phase.add_argument("--kubeconfig-dir", default=None)
        _init_flags(phase)


def _join_flags(command: Parser) -> None:
    command.add_argument("--config")
    for name in ("token", "discovery-token", "tls-bootstrap-token", "discovery-file", "node-name", "cri-socket", "certificate-key"):
        command.add_argument(f"--{name}")
    command.add_argument("--apiserver-advertise-address")
    command.add_argument("--apiserver-bind-port", type=int)
    command.add_argument("--patches")
    command.add_argument("--discovery-token-ca-cert-hash", action="append", default=[])
    command.add_argument("--discovery-token-unsafe-skip-ca-verification", action="store_true")
    command.add_argument("--control-plane", action="store_true")
    command.add_argument("--dry-run", action="store_true")
    command.add_argument("--ignore-preflight-errors", type=_list, default=[])
    command.add_argument("--skip-phases", type=_list, default=[])


def _join(commands) -> None:
    command = _command(commands, "join", kubeadm_join.join)
    _join_flags(command)
    command.add_argument("first", nargs="*", help="the API server's endpoint, or `phase preflight [endpoint]`")


def _reset(commands) -> None:
    command = _command(commands, "reset", kubeadm_node.reset)
    command.add_argument("-f", "--force", action="store_true")
    command.add_argument("--cri-socket")
    command.add_argument("--cleanup-tmp-dir", action="store_true")
    command.add_argument("--cert-dir")
    command.add_argument("--kubeconfig")
    command.add_argument("--config")
    command.add_argument("--dry-run", action="store_true")
    command.add_argument("--ignore-preflight-errors", type=_list, default=[])
    command.add_argument("--skip-phases", type=_list, default=[])


def _token(commands) -> None:
    group = commands.add_parser("token", allow_abbrev=False).add_subparsers(dest="sub", required=True, parser_class=Parser)
    create = _command(group, "create", kubeadm_token.create)
    create.add_argument("token", nargs="?")
    create.add_argument("--ttl", default="24h0m0s")
    create.add_argument("--description", default="")
    create.add_argument("--usages", type=_list, default=["signing", "authentication"])
    create.add_argument("--groups", type=_list, default=["system:bootstrappers:kubeadm:default-node-token"])
    create.add_argument("--print-join-command", action="store_true")
    create.add_argument("--certificate-key", default="")
    create.add_argument("--config")
    create.add_argument("--dry-run", action="store_true")
    listing = _command(group, "list", kubeadm_token.list_all)
    listing.add_argument("-o", "--output", default="text")
    delete = _command(group, "delete", kubeadm_token.delete)
    delete.add_argument("tokens", nargs="+")
    _command(group, "generate", kubeadm_token.generate)
    for each in (create, listing, delete):
        each.add_argument("--kubeconfig", default=None)


def _config(commands) -> None:
    group = commands.add_parser("config", allow_abbrev=False).add_subparsers(dest="sub", required=True, parser_class=Parser)
    _command(group, "validate", kubeadm_config.validate).add_argument("--config", required=True)
    migrate = _command(group, "migrate", kubeadm_config.migrate)
    migrate.add_argument("--old-config", required=True)
    migrate.add_argument("--new-config")
    prints = group.add_parser("print", allow_abbrev=False).add_subparsers(dest="what", required=True, parser_class=Parser)
    for name, run in kubeadm_config.PRINTS.items():
        _command(prints, name, run).add_argument("--component-configs", type=_list, default=[])
    images = group.add_parser("images", allow_abbrev=False).add_subparsers(dest="what", required=True, parser_class=Parser)
    for name, run in (("list", kubeadm_config.images_list), ("pull", kubeadm_config.images_pull)):
        each = _command(images, name, run)
        for flag in ("config", "kubernetes-version", "image-repository", "cri-socket", "feature-gates"):
            each.add_argument(f"--{flag}")
        each.add_argument("-o", "--output", default="text")


def _certs(commands) -> None:
    group = commands.add_parser("certs", allow_abbrev=False).add_subparsers(dest="sub", required=True, parser_class=Parser)
    _command(group, "certificate-key", kubeadm_node.certificate_key)
    check = _command(group, "check-expiration", kubeadm_node.check_expiration)
    check.add_argument("--config")
    check.add_argument("--cert-dir")
    renew = group.add_parser("renew", allow_abbrev=False)
    renew.add_argument("rest", nargs=argparse.REMAINDER)
    renew.set_defaults(run=_no_renew)


def _no_renew(options: argparse.Namespace) -> None:
    raise Lacking("kubeadm certs renew")


def _kubeconfig(commands) -> None:
    group = commands.add_parser("kubeconfig", allow_abbrev=False).add_subparsers(dest="sub", required=True, parser_class=Parser)
    user = _command(group, "user", kubeadm_node.user)
    user.add_argument("--client-name", required=True)
    user.add_argument("--org", type=_list, default=[])
    user.add_argument("--config")
    user.add_argument("--token")
    user.add_argument("--validity-period", default="8760h0m0s")


def as_json(value) -> str:
    return json.dumps(value, indent=4)
