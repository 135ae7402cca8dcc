"""`kubeadm token`: the Secrets of bootstrap tokens, through the API server."""

import argparse
import datetime
import json
import pathlib
import time

from cryptography import x509

from standin import client, kubeconfig, paths, pki, tokens, words
from standin.words import Failure, out, quoted

SECRETS = "/api/v1/namespaces/kube-system/secrets"
PATIENCE = 75


def generate(options: argparse.Namespace) -> None:
    out(tokens.generate())


def _access(options: argparse.Namespace) -> kubeconfig.Access:
    path = pathlib.Path(options.kubeconfig) if options.kubeconfig else paths.ADMIN
    try:
        return kubeconfig.read(path)
    except OSError as problem:
        raise Failure(f"failed to load admin kubeconfig: open {path}: no such file or directory") from problem


def create(options: argparse.Namespace) -> None:
    token = options.token or tokens.generate()
    if not tokens.FORM.match(token):
        raise Failure(f"the bootstrap token {quoted(token)} was not of the form {tokens.FORM_TEXT}")
    try:
        ttl = words.seconds(options.ttl)
    except ValueError as problem:
        raise Failure(f'invalid argument {quoted(options.ttl)} for "--ttl" flag: {problem}') from problem
    access = _access(options)
    secret = tokens.secret(token, ttl, options.description, options.usages, options.groups)
    _store(client.Api(access), secret, token)
    if not options.print_join_command:
        out(token)
        return
    endpoint = access.server.removeprefix("https://")
    pin = pki.spki_hash(x509.load_pem_x509_certificate(access.ca))
    line = f"kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {pin} "
    if options.certificate_key:
        line += f"--control-plane --certificate-key {options.certificate_key}"
    out(line)


def _store(api: client.Api, secret: dict, token: str) -> None:
    """Gives up after 75 s without saying why, as the real one does."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            api.create(SECRETS, secret)
            return
        except client.Refused as refusal:
            if refusal.reason == "AlreadyExists":
                raise Failure(f"a token with id {quoted(token.split('.')[0])} already exists") from refusal
            raise Failure(str(refusal)) from refusal
        except client.Unreachable as problem:
            if time.monotonic() > end:
                raise Failure("timed out waiting for the condition") from problem
        time.sleep(1)


def delete(options: argparse.Namespace) -> None:
    api = client.Api(_access(options))
    for each in options.tokens:
        identifier = each.split(".")[0]
        try:
            api.delete(f"{SECRETS}/bootstrap-token-{identifier}")
        except (client.Refused, client.Unreachable) as problem:
            raise Failure(f"failed to delete bootstrap token {quoted(identifier)}: {problem}") from problem
        out(f"bootstrap token {quoted(identifier)} deleted")


def list_all(options: argparse.Namespace) -> None:
    try:
        stored = client.Api(_access(options)).items(SECRETS)
    except (client.Refused, client.Unreachable) as problem:
        raise Failure(f"failed to list bootstrap tokens: {problem}") from problem
    found = [tokens.fields(secret) for secret in stored if secret.get("type") == "bootstrap.kubernetes.io/token"]
    found.sort(key=lambda data: data["token-id"])
    if options.output == "json":
        for data in found:
            out(json.dumps(_described(data), indent=4))
        return
    heads = ("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")
    rows = [heads, *(_row(data) for data in found)] if found else []
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(heads))] if rows else []
    for row in rows:
        out("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths)) + row[-1])


def _token(data: dict) -> str:
    return f"{data['token-id']}.{data['token-secret']}"


def _described(data: dict) -> dict:
    made = {"kind": "BootstrapToken", "apiVersion": "output.kubeadm.k8s.io/v1alpha2", "token": _token(data)}
    if data.get("description"):
        made["description"] = data["description"]
    if data.get("expiration"):
        made["expires"] = data["expiration"]
    if tokens.usages(data):
        made["usages"] = tokens.usages(data)
    if data.get("auth-extra-groups"):
        made["groups"] = data["auth-extra-groups"].split(",")
    return made


def _row(data: dict) -> tuple[str, ...]:
    ttl, expires = "<forever>", "<never>"
    if data.get("expiration"):
        left = words.moment(data["expiration"]) - datetime.datetime.now(datetime.timezone.utc)
        ttl, expires = _short(left.total_seconds()), data["expiration"]
    usages = ",".join(tokens.usages(data)) or "<none>"
    return _token(data), ttl, expires, usages, data.get("description") or "<none>", data.get("auth-extra-groups") or "<none>"


def _short(left: float) -> str:
    if left < 0:
        return "<invalid>"
    if left < 120:
        return f"{int(left)}s"
    if left < 3 * 3600:
        return f"{int(left // 60)}m" if left < 3600 else f"{int(left // 3600)}h"
    return f"{int(left // 3600)}h"
