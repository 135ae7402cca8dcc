"""A client of the API, with errors in the words of the real programs."""

import errno
import http.client
import json
import os
import socket
import ssl
import tempfile
import urllib.parse

from standin import kubeconfig

MERGE, STRATEGIC, JSON = "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json"
CA_UNKNOWN = "tls: failed to verify certificate: x509: certificate signed by unknown authority"


class Unreachable(Exception):
    """No answer; the message is what Go's client says."""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: dict, code: int):
        super().__init__(status.get("message") or f"the server responded with the status code {code}")
        self.reason, self.code = status.get("reason", ""), code


class Api:
    """Requests as the user of a kubeconfig; without a CA the server is not verified."""

    def __init__(self, access: kubeconfig.Access, timeout: float = 10):
        self.connection: http.client.HTTPSConnection | None = None
        self.server, self.timeout, self.token = access.server, timeout, access.token
        self.context = _context(access)

    def __del__(self):
        self._close()

    def _close(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None

    def get(self, path: str):
        return self.request("GET", path)

    def find(self, path: str):
        """None if the object is not there."""
        try:
            return self.get(path)
        except Refused as refusal:
            if refusal.code != 404:
                raise
            return None

    def items(self, path: str) -> list[dict]:
        return self.get(path)["items"]

    def create(self, path: str, body: dict):
        return self.request("POST", path, body)

    def put(self, path: str, body: dict):
        return self.request("PUT", path, body)

    def patch(self, path: str, body, kind: str = MERGE):
        return self.request("PATCH", path, body, kind)

    def delete(self, path: str):
        return self.request("DELETE", path)

    def ensure(self, collection: str, body: dict):
        """Creates the object, or puts it in the place of the one that is there."""
        try:
            return self.create(collection, body)
        except Refused as refusal:
            if refusal.reason != "AlreadyExists":
                raise
        return self.put(f"{collection}/{body['metadata']['name']}", body)

    def request(self, method: str, path: str, body=None, kind: str = JSON):
        code, text = self.raw(method, path, body, kind)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"message": text.strip()}
        if code >= 400:
            raise Refused(answer, code)
        return answer

    def raw(self, method: str, path: str, body=None, kind: str = JSON) -> tuple[int, str]:
        headers = {"Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body), kind
        try:
            # A connection kept from before may have been closed meanwhile; then a new one is worth a try.
            if self.connection:
                try:
                    return self._exchange(method, path, content, headers)
                except (OSError, http.client.HTTPException):
                    self._close()
            url = urllib.parse.urlsplit(self.server)
            self.connection = http.client.HTTPSConnection(url.hostname, url.port or 443, timeout=self.timeout, context=self.context)
            return self._exchange(method, path, content, headers)
        except (OSError, http.client.HTTPException) as problem:
            self._close()
            url = urllib.parse.urlsplit(self.server)
            raise Unreachable(f'{method.capitalize()} "{self.server}{path}": {explain(problem, url.hostname, url.port)}') from problem

    def _exchange(self, method: str, path: str, content: str | None, headers: dict) -> tuple[int, str]:
        self.connection.request(method, path, content, headers)
        response = self.connection.getresponse()
        return response.status, response.read().decode()


def explain(problem: Exception, host: str, port: int | None) -> str:
    """What Go's network library says in the same situation."""
    dial = f"dial tcp {host}:{port or 443}"
    if isinstance(problem, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return CA_UNKNOWN
    if isinstance(problem, ssl.SSLError):
        return (
            "tls: first record does not look like a TLS handshake"
            if "WRONG_VERSION" in str(problem)
            else f"remote error: tls: {problem.reason}"
        )
    if isinstance(problem, TimeoutError):
        return f"{dial}: i/o timeout"
    if isinstance(problem, OSError) and problem.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"{dial}: connect: {_reason(problem.errno)}"
    return "EOF" if isinstance(problem, (http.client.HTTPException, ConnectionError)) else f"{dial}: {problem}"


def _reason(number: int) -> str:
    return {errno.EHOSTUNREACH: "no route to host", errno.ENETUNREACH: "network is unreachable"}.get(number, "connection refused")


def _context(access: kubeconfig.Access) -> ssl.SSLContext:
    if access.ca:
        context = ssl.create_default_context(cadata=access.ca.decode())
    else:
        context = ssl._create_unverified_context()
    if access.certificate:
        # The library takes credentials from files only; this one is gone before the first request.
        with tempfile.NamedTemporaryFile() as both:
            both.write(access.certificate + b"\n" + (access.key if access.key != access.certificate else b""))
            both.flush()
            os.fchmod(both.fileno(), 0o600)
            context.load_cert_chain(both.name)
    return context
