"""Waiting for the control plane, for the kubelet, for nodes; and what is said when it was in vain."""

import time
import urllib.error
import urllib.request

from standin import client
from standin.words import out

HEALTHZ = "http://localhost:10248/healthz"
GRACE = 40
BACKOFF = (5, 10, 20, 40)


def healthy(api: client.Api) -> bool:
    try:
        return api.raw("GET", "/healthz")[0] == 200
    except client.Unreachable:
        return False


def until(done, timeout: float) -> bool:
    """Asks `done` twice a second. After 40 s the kubelet is looked at; five failures of its own end the waiting."""
    begun = time.monotonic()
    checks = [GRACE]
    for pause in BACKOFF:
        checks.append(checks[-1] + pause)
    while time.monotonic() - begun < timeout:
        if done():
            return True
        elapsed = time.monotonic() - begun
        if checks and elapsed >= checks[0]:
            if checks[0] == GRACE:
                out("[kubelet-check] Initial timeout of 40s passed.")
            problem = kubelet_problem()
            if problem is None:
                checks = []
            else:
                checks.pop(0)
                out("[kubelet-check] It seems like the kubelet isn't running or healthy.")
                out(f"[kubelet-check] The HTTP call equal to 'curl -sSL {HEALTHZ}' failed with error: {problem}.")
                if not checks:
                    return False
        time.sleep(0.5)
    return False


def kubelet_problem() -> str | None:
    try:
        with urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=2):
            return None
    except (urllib.error.URLError, OSError):
        return f'Get "{HEALTHZ}": dial tcp 127.0.0.1:10248: connect: connection refused'


def patch_node(api: client.Api, name: str, body: dict, timeout: float = 120) -> None:
    """The node's object may not be there yet."""
    end = time.monotonic() + timeout
    while True:
        try:
            api.patch(f"/api/v1/nodes/{name}", body, client.STRATEGIC)
            return
        except (client.Refused, client.Unreachable) as problem:
            final = isinstance(problem, client.Refused) and problem.code != 404
            if final or time.monotonic() > end:
                raise
        time.sleep(0.5)


HINTS = """
Unfortunately, an error has occurred:
\ttimed out waiting for the condition

This error is likely caused by:
\t- The kubelet is not running
\t- The kubelet is unhealthy due to a misconfiguration of the node in some way (required cgroups disabled)

If you are on a systemd-powered system, you can try to troubleshoot the error with the following commands:
\t- 'systemctl status kubelet'
\t- 'journalctl -xeu kubelet'"""
CONTAINER_HINTS = """
Additionally, a control plane component may have crashed or exited when started by the container runtime.
To troubleshoot, list all containers using your preferred container runtimes CLI.
Here is one example how you may list all running Kubernetes containers by using crictl:
\t- 'crictl --runtime-endpoint {socket} ps -a | grep kube | grep -v pause'
\tOnce you have found the failing container, you can inspect its logs with:
\t- 'crictl --runtime-endpoint {socket} logs CONTAINERID'"""


def explain_failure(socket: str | None) -> None:
    out(HINTS)
    if socket:
        out(CONTAINER_HINTS.format(socket=socket))
