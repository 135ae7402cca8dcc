"""kubelet: registers its node and keeps it Ready, starts the control plane's stand-in, and runs nothing else."""

import json
import pathlib
import subprocess
import sys
import threading
import time

from standin import client, cri, kubeconfig, node, paths, preflight, release, schema, static_pods, words
from standin.words import quoted

DEPRECATED = {
    "pod-infra-container-image": "Flag --pod-infra-container-image has been deprecated, will be removed in a future release. Image garbage collector will get sandbox image information from CRI.",
    "container-runtime-endpoint": "Flag --container-runtime-endpoint has been deprecated, This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information.",
}
FLAGS = set(
    "bootstrap-kubeconfig kubeconfig config container-runtime-endpoint pod-infra-container-image hostname-override"
    " node-ip node-labels register-with-taints register-node fail-swap-on cgroup-driver cloud-provider max-pods"
    " root-dir resolv-conf rotate-certificates rotate-server-certificates feature-gates system-reserved kube-reserved"
    " eviction-hard provider-id image-credential-provider-config image-credential-provider-bin-dir v cluster-dns"
    " cluster-domain read-only-port address anonymous-auth authorization-mode client-ca-file tls-min-version".split()
)
# Seconds for which a node that has just been registered is not ready; the real one took about ten.
NEW = 4


class Fatal(Exception):
    """Ends the kubelet with 1; systemd starts it again ten seconds later."""


def main() -> None:
    arguments = sys.argv[1:]
    if "--version" in arguments:
        release.notice()
        print(f"Kubernetes {release.VERSION}")
        return
    if arguments == [static_pods.FLAG]:
        static_pods.serve()
        return
    try:
        flags = parse(arguments)
        Kubelet(flags, load_config(flags)).run()
    except Fatal as problem:
        words.warning("run.go:74", f'"command failed" err={quoted(str(problem))}', "E")
        sys.exit(1)


def parse(arguments: list[str]) -> dict[str, str]:
    flags = {}
    for argument in arguments:
        name, has_value, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in FLAGS:
            raise Fatal(f"failed to parse kubelet flag: unknown flag: {argument.split('=')[0]}")
        flags[name] = value if has_value else "true"
    for name, text in DEPRECATED.items():
        if name in flags:
            print(text, file=sys.stderr, flush=True)
    return flags


def load_config(flags: dict[str, str]) -> dict:
    path = flags.get("config")
    if not path:
        return {}
    failed = f"failed to load kubelet config file, path: {path}, error"
    try:
        text = pathlib.Path(path).read_text()
    except OSError as problem:
        reason = f'error failed to read kubelet config file "{path}", error: open {path}: {problem.strerror.lower()}'
        raise Fatal(f"{failed}: failed to load Kubelet config file {path}, {reason}") from problem
    try:
        config = words.load(text)
        unknown = schema.check("KubeletConfiguration", config, schema.KUBELET)
    except (schema.Mismatch, words.yaml.YAMLError, words.DuplicateKey) as problem:
        raise Fatal(f"{failed}: {problem}") from problem
    if unknown:
        raise Fatal(f"{failed}: {schema.strict_error(unknown)}")
    return config


class Kubelet:
    """One run of the service."""

    def __init__(self, flags: dict[str, str], config: dict):
        self.flags, self.config = flags, config
        self.endpoint = flags.get("container-runtime-endpoint") or config.get("containerRuntimeEndpoint") or ""
        self.endpoint = self.endpoint or "unix:///run/containerd/containerd.sock"
        self.runtime = cri.Runtime(self.endpoint)
        self.name = flags.get("hostname-override") or node.hostname()
        self.reported: dict[str, str] = {}
        self.api: tuple[int, client.Api] | None = None

    def run(self) -> None:
        self._check_swap()
        try:
            self.runtime.version()
        except cri.NotRunning as problem:
            raise Fatal(f"failed to run Kubelet: {problem}") from problem
        node.prepare_directories(self.name)
        has_kubeconfig = self._path("kubeconfig").exists()
        has_bootstrap = self._path("bootstrap-kubeconfig").exists()
        if not has_kubeconfig and not has_bootstrap:
            path = self._path("bootstrap-kubeconfig")
            raise Fatal(f"failed to run Kubelet: unable to load bootstrap kubeconfig: stat {path}: no such file or directory")
        # The health port and static pods come first: a control plane's API server is one of them.
        node.serve_health(self.config.get("healthzBindAddress", "127.0.0.1"), int(self.config.get("healthzPort", 10248)))
        node.take_port(10250)
        threading.Thread(target=self._static_pods, daemon=True).start()
        if not has_kubeconfig:
            self._bootstrap()
        else:
            node.keep_certificate(kubeconfig.read(self._path("kubeconfig")))
        self._follow()

    def _path(self, flag: str) -> pathlib.Path:
        return pathlib.Path(self.flags.get(flag) or "/nonexistent")

    def _check_swap(self) -> None:
        forgiven = self.flags.get("fail-swap-on") == "false" or self.config.get("failSwapOn") is False
        lines = preflight.swaps()
        if lines and not forgiven:
            shown = " ".join(lines)
            text = "running with swap on is not supported, please disable swap! or set --fail-swap-on flag to false."
            raise Fatal(f"failed to run Kubelet: {text} /proc/swaps contained: [{shown}]")

    def _manifests(self) -> pathlib.Path:
        return pathlib.Path(self.config.get("staticPodPath") or paths.MANIFESTS)

    def _static_pods(self) -> None:
        follower = static_pods.Follower(self._manifests())
        while True:
            try:
                follower.look()
            except (OSError, subprocess.SubprocessError) as problem:
                words.warning("static_pods", repr(problem), "E")
            time.sleep(1)

    def _bootstrap(self) -> None:
        """Asks for a certificate until one comes, as long as the kubelet runs."""
        while True:
            try:
                access = kubeconfig.read(self._path("bootstrap-kubeconfig"))
                node.bootstrap(client.Api(access), self.name, access)
                return
            except (client.Unreachable, client.Refused) as problem:
                words.warning(
                    "certificate_manager.go:562",
                    f"kubernetes.io/kube-apiserver-client-kubelet: Failed while requesting a signed certificate from the control plane: {problem}",
                    "E",
                )
            except OSError as problem:
                raise Fatal(f"failed to run Kubelet: unable to load bootstrap kubeconfig: {problem}") from problem
            time.sleep(1)

    def _follow(self) -> None:
        """Registers once; after that only reports. A node object deleted meanwhile stays away until a restart."""
        registered = new = False
        beat = 0
        while True:
            try:
                api = self._api()
                if not registered:
                    new = node.register(api, self.name, self.flags, self.config, self.endpoint)
                    registered = True
                self._report(api, beat, new and beat < NEW)
                beat += 1
            except (client.Unreachable, client.Refused, OSError, KeyError) as problem:
                self._complain(problem)
            time.sleep(1)

    def _api(self) -> client.Api:
        """The same connection for as long as the kubeconfig is the same."""
        path = self._path("kubeconfig")
        changed = path.stat().st_mtime_ns
        if self.api is None or self.api[0] != changed:
            self.api = (changed, client.Api(kubeconfig.read(path)))
        return self.api[1]

    def _report(self, api: client.Api, beat: int, new: bool) -> None:
        """Every other second the runtime and the pods; the lease and the status when something changed or every ten."""
        if beat % 2:
            return
        conditions = node.conditions(self.runtime, new)
        state = json.dumps([(each["type"], each["status"], each["message"]) for each in conditions])
        if beat % 10 == 0 or state != self.reported.get("state"):
            node.renew_lease(api, self.name)
            node.report(api, self.name, conditions, self.runtime, self.flags)
            self.reported = {"state": state}
        if node.is_there(api, self.name):
            static_pods.mirror(api, self.name, self._manifests())
            node.run_pods(api, self.name, ready=conditions[-1]["status"] == "True")

    def _complain(self, problem: Exception) -> None:
        """Once for each thing that is wrong, not once a second."""
        if self.reported.get("problem") != str(problem):
            words.warning("kubelet_node_status.go:540", f'"Error updating node status" err={quoted(str(problem))}', "E")
        self.reported = {"problem": str(problem)}
