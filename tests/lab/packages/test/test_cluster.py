"""A cluster in this process: certificates, the API server, tokens, nodes that come, fall silent and go."""

import contextlib
import datetime
import io
import json
import os
import threading
import unittest
from unittest import mock

from test import HERE

from cryptography import x509

from standin import (
    addons,
    apiserver,
    client,
    controllers,
    cri,
    kubeadm,
    kubeadm_init,
    kubeadm_join,
    kubeconfig,
    kubectl,
    node,
    paths,
    pki,
    static_pods,
    store,
    tokens,
    words,
)

TOKEN = "abcdef.0123456789abcdef"


class Runtime:
    """A container runtime that is well."""

    network = (True, "", "")

    def version(self):
        return "containerd", "1.6.20"

    def conditions(self):
        return {"RuntimeReady": (True, "", ""), "NetworkReady": self.network}


def quietly(work, *arguments):
    """(result, lines printed)."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        result = work(*arguments)
    return result, out.getvalue().splitlines()


class Cluster(unittest.TestCase):
    """One control plane, made once; every test adds nodes of its own."""

    @classmethod
    def setUpClass(cls):
        cls.facts = json.loads((HERE / "fixtures/init.json").read_text())
        text = cls.facts["input"].replace("10.99.0.11", "127.0.0.1")
        config = paths.ROOT / "init.yaml"
        config.write_text(text)
        options = kubeadm.parser().parse_args(["init", "--config", str(config), "--upload-certs"])
        cls.plan = kubeadm_init.Plan(options)
        cls.said = []
        for step in (kubeadm_init.certs, kubeadm_init.kubeconfigs, kubeadm_init.etcd, kubeadm_init.control_plane):
            cls.said += quietly(step, cls.plan)[1]
        kept = store.Store(static_pods.data_file(paths.ETCD))
        cls.server = apiserver.Server(("127.0.0.1", 0), kept, "v1.28.4")
        threading.Thread(target=cls.server.serve_forever, args=(0.05,), daemon=True).start()
        cls.port = cls.server.server_address[1]
        cls.plan.cluster["controlPlaneEndpoint"] = f"127.0.0.1:{cls.port}"
        for file in paths.KUBERNETES.glob("*.conf"):
            file.write_text(file.read_text().replace("127.0.0.1:6443", f"127.0.0.1:{cls.port}"))
        cls.controllers = controllers.Controllers(kept, "10.244.0.0/16")
        cls.api = cls.plan.api()
        quietly(node.register, cls.api, "cp-1", {}, {}, "")
        for step in (kubeadm_init.upload_config, kubeadm_init.mark, kubeadm_init.bootstrap_token):
            cls.said += quietly(step, cls.plan)[1]
        cls.said += quietly(kubeadm_init.upload_certs, cls.plan, True)[1]
        cls.said += quietly(addons.apply, cls.api, cls.plan.cluster, {}, set())[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def turn(self):
        """One round of every controller."""
        loop = self.controllers
        for duty in (loop.tokens, loop.nodes, loop.requests, loop.deployments, loop.daemon_sets, loop.schedule):
            duty()

    def discovery(self, **changes) -> dict:
        pin = pki.spki_hash(pki.load(paths.PKI / "ca").certificate)
        given = {"token": TOKEN, "apiServerEndpoint": f"127.0.0.1:{self.port}", "caCertHashes": [pin], **changes}
        return {"bootstrapToken": given, "tlsBootstrapToken": given["token"], "timeout": "0s"}

    def add_node(self, name: str, runtime=None) -> client.Api:
        """What a joining kubelet does, with the token's rights and then with its own."""
        self.turn()
        access = kubeadm_join.discover(self.discovery())
        stop = threading.Event()

        def approve():
            while not stop.wait(0.05):
                self.controllers.requests()

        thread = threading.Thread(target=approve)
        thread.start()
        node.prepare_directories(name)
        node.bootstrap(client.Api(access), name, access)
        stop.set()
        thread.join()
        own = client.Api(kubeconfig.Access(kubeconfig.of_kubelet(access.server, access.ca)))
        quietly(node.register, own, name, {"node-labels": "example.test/pool=a"}, {}, "")
        self.beat(own, name, runtime)
        return own

    def beat(self, own: client.Api, name: str, runtime=None):
        runtime = runtime or Runtime()
        node.renew_lease(own, name)
        node.report(own, name, node.conditions(runtime), runtime, {"node-ip": "10.99.0.12"})
        self.turn()
        node.run_pods(own, name, ready=True)

    def kubectl(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        environment = {"KUBECONFIG": str(paths.ADMIN)}
        with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = kubectl.run(list(arguments))
        return code, out.getvalue(), err.getvalue()

    # --- what init leaves

    def test_files_are_those_of_the_recording(self):
        found = {
            f"-{'rw-r--r--' if path.stat().st_mode & 0o044 else 'rw-------'} /{path.relative_to(paths.ROOT)}"
            for path in paths.KUBERNETES.rglob("*")
            if path.is_file()
        }
        want = {line for line in self.facts["pki_files"] if line.startswith("-")}
        self.assertEqual(found - {"-rw------- /etc/kubernetes/kubelet.conf"}, want - {"-rw------- /etc/kubernetes/kubelet.conf"})

    def test_lines_are_those_of_the_recording(self):
        missing = [
            line.replace("10.99.0.11 127.0.0.1", "127.0.0.1").replace("10.99.0.11", "127.0.0.1") for line in self.facts["certs_lines"]
        ]
        self.assertEqual([line for line in missing if line not in self.said], [])
        self.assertIn("[addons] Applied essential addon: CoreDNS", self.said)

    def test_certificates_have_the_recorded_subjects_and_usages(self):
        for name, subject, issuer in (
            ("apiserver", "CN=kube-apiserver", "CN=kubernetes"),
            ("apiserver-kubelet-client", "CN=kube-apiserver-kubelet-client,O=system:masters", "CN=kubernetes"),
            ("etcd/healthcheck-client", "CN=kube-etcd-healthcheck-client,O=system:masters", "CN=etcd-ca"),
            ("etcd/peer", "CN=cp-1", "CN=etcd-ca"),
        ):
            certificate = x509.load_pem_x509_certificate((paths.PKI / f"{name}.crt").read_bytes())
            self.assertEqual((certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()), (subject, issuer))
            key = x509.load_pem_x509_certificate((paths.PKI / f"{name}.crt").read_bytes()).public_key()
            self.assertEqual(key.key_size, 2048)

    def test_the_stored_configuration_is_the_recorded_one(self):
        stored = self.api.get("/api/v1/namespaces/kube-system/configmaps/kubeadm-config")["data"]["ClusterConfiguration"]
        self.assertEqual(stored.replace(f"127.0.0.1:{self.port}", "10.99.0.11:6443"), self.facts["cluster_configuration"])

    def test_the_store_survives_its_process(self):
        self.api.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "kept"}, "data": {"a": "b"}})
        again = store.Store(self.server.kept.file)
        self.assertEqual(again.get("", "configmaps", "default", "kept")["data"], {"a": "b"})

    # --- who may what

    def test_nobody_may_read_cluster_info_and_health_only(self):
        nobody = kubeconfig.Access("{}")
        nobody.server = f"https://127.0.0.1:{self.port}"
        api = client.Api(nobody)
        self.assertEqual(api.raw("GET", "/readyz"), (200, "ok"))
        self.assertEqual(api.get(kubeadm_join.CLUSTER_INFO)["kind"], "ConfigMap")
        with self.assertRaises(client.Refused) as caught:
            api.get("/api/v1/nodes")
        self.assertEqual((caught.exception.code, caught.exception.reason), (403, "Forbidden"))

    def test_a_certificate_of_another_authority_is_refused(self):
        other = pki.authority("kubernetes")
        text = kubeconfig.with_certificate("x", f"https://127.0.0.1:{self.port}", other, "admin", "system:masters")
        access = kubeconfig.Access(text)
        access.ca = (paths.PKI / "ca.crt").read_bytes()
        with self.assertRaises((client.Unreachable, client.Refused)):
            client.Api(access).get("/api/v1/nodes")

    # --- discovery

    def test_discovery_names_what_is_wrong(self):
        self.turn()
        for changes, message in (
            (
                {"token": "abcdef.0000000000000000"},
                "failed to verify JWS signature of received cluster info object, can't trust this API Server",
            ),
            ({"token": "aaaaaa.0123456789abcdef"}, 'could not find a JWS signature in the cluster-info ConfigMap for token ID "aaaaaa"'),
            ({"caCertHashes": ["sha256:" + "0" * 64]}, "are pinned"),
            ({"caCertHashes": ["sha256:zz"]}, 'invalid hash "sha256:zz", expected a 32 byte SHA-256 hash, found 1 bytes'),
            ({"apiServerEndpoint": "127.0.0.1:1"}, "dial tcp 127.0.0.1:1: connect: connection refused"),
        ):
            with self.subTest(message), self.assertRaises(words.Failure) as caught:
                kubeadm_join.discover(self.discovery(**changes))
            self.assertIn(message, str(caught.exception))

    def test_an_expired_token_is_as_if_it_had_never_been(self):
        secret = tokens.secret("zzzzzz.0123456789abcdef", -1, "", ["signing", "authentication"], [])
        self.api.create("/api/v1/namespaces/kube-system/secrets", secret)
        self.turn()
        self.assertIsNone(self.api.find("/api/v1/namespaces/kube-system/secrets/bootstrap-token-zzzzzz"))
        self.assertIn("zzzzzz.0123456789abcdef", paths.SEEN_TOKENS.read_text().split())

    # --- nodes

    def test_a_worker_joins_and_is_shown(self):
        self.add_node("worker-1")
        code, out, _ = self.kubectl("get", "nodes", "worker-1", "--no-headers")
        self.assertEqual(code, 0)
        self.assertEqual(out.split()[:3], ["worker-1", "Ready", "<none>"])
        _, out, _ = self.kubectl(
            "get", "nodes", "-o", 'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status};{end}'
        )
        self.assertIn("worker-1=True;", out)
        _, out, _ = self.kubectl("get", "csr")
        self.assertIn("system:bootstrap:abcdef", out)

    def test_a_network_that_is_not_ready_makes_the_node_not_ready(self):
        runtime = Runtime()
        runtime.network = (False, "NetworkPluginNotReady", "Network plugin returns error: cni plugin not initialized")
        self.add_node("worker-2", runtime)
        ready = self.api.get("/api/v1/nodes/worker-2")["status"]["conditions"][-1]
        self.assertEqual(ready["status"], "False")
        self.assertIn("NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error", ready["message"])

    def test_a_new_node_is_not_ready_whatever_the_runtime_says(self):
        runtime = Runtime()
        self.assertEqual(node.conditions(runtime, new=True)[-1]["message"], "CSINode is not yet initialized")
        runtime.network = (False, "NetworkPluginNotReady", "")
        self.assertRegex(node.conditions(runtime, new=True)[-1]["message"], r"^\[container runtime network .*, CSINode is not yet initialized\]$")
        self.assertEqual(node.conditions(Runtime())[-1]["status"], "True")

    def test_a_token_can_be_withheld(self):
        for skip in (False, True):
            with mock.patch.object(self.plan.options, "skip_token_print", skip):
                said = "\n".join(quietly(kubeadm_init.congratulate, self.plan, None)[1])
            self.assertEqual((TOKEN in said, "<value withheld>" in said), (not skip, skip))

    def test_the_pods_of_a_network_plugin_bring_its_configuration(self):
        runtime = Runtime()
        runtime.network = (False, "NetworkPluginNotReady", "Network plugin returns error: cni plugin not initialized")
        own = self.add_node("worker-6", runtime)
        self.assertEqual(self.kubectl("apply", "-f", str(HERE.parent / "pod-network.yaml"))[0], 0)
        self.beat(own, "worker-6", runtime)
        made = json.loads((paths.ROOT / "etc/cni/net.d/10-flannel.conflist").read_text())
        self.assertEqual(made["plugins"][0]["type"], "bridge")

    def test_a_silent_node_stays_ready_for_forty_seconds(self):
        self.add_node("worker-3")
        lease = ("coordination.k8s.io", "leases", "kube-node-lease", "worker-3")
        for seconds, state in ((39, "True"), (41, "Unknown")):
            past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
            self.controllers.started = past - datetime.timedelta(seconds=60)
            self.server.kept.objects[lease]["spec"]["renewTime"] = words.stamp(past)
            self.turn()
            self.assertEqual(controllers.ready(self.api.get("/api/v1/nodes/worker-3")), state)
        self.controllers.started = datetime.datetime.now(datetime.timezone.utc)

    def test_draining_moves_pods_and_spares_daemons(self):
        own = self.add_node("worker-4")
        pod = self.api.items("/api/v1/pods?fieldSelector=spec.nodeName=worker-4")[0]
        self.assertEqual(pod["metadata"]["ownerReferences"][0]["kind"], "DaemonSet")
        moved = {"metadata": {"name": "web-1", "ownerReferences": [{"kind": "ReplicaSet", "uid": "x", "name": "web"}]}}
        moved["spec"] = {"nodeName": "worker-4", "containers": [{"name": "web"}]}
        self.api.create("/api/v1/namespaces/default/pods", moved)
        code, out, err = self.kubectl("drain", "worker-4", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        self.assertEqual(
            out.splitlines(), ["node/worker-4 cordoned", "evicting pod default/web-1", "pod/web-1 evicted", "node/worker-4 drained"]
        )
        self.assertEqual((code, err), (0, f"Warning: ignoring DaemonSet-managed Pods: kube-system/{pod['metadata']['name']}\n"))
        self.beat(own, "worker-4")
        self.assertIn("Ready,SchedulingDisabled", self.kubectl("get", "nodes", "worker-4")[1])
        self.assertEqual(self.kubectl("delete", "node", "worker-4")[1], 'node "worker-4" deleted\n')
        self.assertEqual(self.kubectl("get", "node", "worker-4")[2], 'Error from server (NotFound): nodes "worker-4" not found\n')

    def test_labels_and_taints(self):
        self.add_node("worker-5")
        self.assertEqual(self.kubectl("label", "node", "worker-5", "pool=b")[1], "node/worker-5 labeled\n")
        self.assertEqual(self.kubectl("label", "node", "worker-5", "pool=c")[0], 1)
        self.assertEqual(self.kubectl("taint", "nodes", "worker-5", "dedicated=db:NoSchedule")[1], "node/worker-5 tainted\n")
        self.turn()
        found = self.api.get("/api/v1/nodes/worker-5")
        self.assertEqual(found["metadata"]["labels"]["pool"], "b")
        self.assertIn({"key": "dedicated", "effect": "NoSchedule", "value": "db"}, found["spec"]["taints"])
        self.assertEqual(self.kubectl("taint", "nodes", "worker-5", "dedicated:NoSchedule-")[1], "node/worker-5 untainted\n")

    def test_what_kubectl_lacks_is_said(self):
        code, _, err = self.kubectl("logs", "x")
        self.assertEqual((code, err), (1, "the Groundwork lab stand-in lacks this: kubectl logs\n"))


class Interface(unittest.TestCase):
    def test_a_socket_that_is_not_there_is_named(self):
        with self.assertRaises(cri.NotRunning) as caught:
            cri.Runtime("unix:///run/none.sock").version()
        self.assertIn("dial unix /run/none.sock: connect: no such file or directory", str(caught.exception))

    def test_protobuf_is_read_without_its_schema(self):
        self.assertEqual(cri.decode(b"\x0a\x02hi\x10\x96\x01"), {1: [b"hi"], 2: [150]})
        self.assertEqual(cri.decode(cri.encode(1, "abc")), {1: [b"abc"]})


if __name__ == "__main__":
    unittest.main()
