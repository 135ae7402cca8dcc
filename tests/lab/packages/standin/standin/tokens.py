"""Bootstrap tokens: their form, the Secrets that hold them, and the signatures over cluster-info."""

import base64
import datetime
import hashlib
import hmac
import json
import re
import secrets
import string

from standin import words

FORM = re.compile(r"\A([a-z0-9]{6})\.([a-z0-9]{16})\Z")
FORM_TEXT = r'"\\A([a-z0-9]{6})\\.([a-z0-9]{16})\\z"'
GROUP = "system:bootstrappers:kubeadm:default-node-token"
ALPHABET = string.ascii_lowercase + string.digits
DEFAULT_TTL = "24h0m0s"


def generate() -> str:
    pick = lambda count: "".join(secrets.choice(ALPHABET) for _ in range(count))
    return f"{pick(6)}.{pick(16)}"


def secret(token: str, ttl: float, description: str, usages: list[str], groups: list[str]) -> dict:
    """The Secret of a token; a ttl of 0 never ends."""
    identifier, value = token.split(".")
    data = {"token-id": identifier, "token-secret": value}
    if ttl:
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ttl)
        data["expiration"] = words.stamp(end)
    if description:
        data["description"] = description
    data.update({f"usage-bootstrap-{usage}": "true" for usage in usages})
    if groups:
        data["auth-extra-groups"] = ",".join(groups)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{identifier}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def fields(stored: dict) -> dict[str, str]:
    return {key: base64.b64decode(text).decode() for key, text in (stored.get("data") or {}).items()}


def expired(data: dict[str, str]) -> bool:
    return "expiration" in data and words.moment(data["expiration"]) <= datetime.datetime.now(datetime.timezone.utc)


def usages(data: dict[str, str]) -> list[str]:
    return [usage for usage in ("authentication", "signing") if data.get(f"usage-bootstrap-{usage}") == "true"]


def sign(content: str, identifier: str, value: str) -> str:
    """A JSON web signature without its content, as the bootstrap signer makes it."""
    header = _base64(json.dumps({"alg": "HS256", "kid": identifier}, separators=(",", ":")).encode())
    signed = f"{header}.{_base64(content.encode())}".encode()
    return f"{header}..{_base64(hmac.new(value.encode(), signed, hashlib.sha256).digest())}"


def verify(content: str, signature: str, identifier: str, value: str) -> bool:
    return hmac.compare_digest(signature, sign(content, identifier, value))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
