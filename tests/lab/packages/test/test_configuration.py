"""What the command line and configuration files are told when they are wrong, word for word."""

import contextlib
import io
import json
import unittest

from test import HERE

from standin import configuration, kubeadm, kubeadm_init, manifests, release, words


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = kubeadm.run(list(arguments))
    return code, out.getvalue(), err.getvalue()


def recorded(name: str):
    return json.loads((HERE / "fixtures" / name).read_text())


def complete(text: str) -> tuple[dict, dict]:
    documents = configuration.decode(text)
    cluster = configuration.cluster(documents.get("ClusterConfiguration"))
    made = configuration.init(documents.get("InitConfiguration"))
    configuration.validate_init(made, cluster)
    return made, cluster


class Configurations(unittest.TestCase):
    def test_every_recorded_mistake_gets_its_recorded_answer(self):
        for case in recorded("configurations.json"):
            with self.subTest(case["name"]):
                message, code = "", 0
                try:
                    complete(case["input"])
                except words.Failure as failure:
                    message, code = str(failure), failure.code
                self.assertEqual((message, code), (case["stderr"], case["exit"]))

    def test_every_recorded_command_line_gets_its_recorded_answer(self):
        for case in recorded("commands.json"):
            with self.subTest(" ".join(case["command"])):
                code, out, err = run(*case["command"])
                self.assertEqual((code, out), (case["exit"], case["stdout"]))
                self.assertEqual(err, case["stderr"])

    def test_a_subnet_that_is_none_ends_with_three(self):
        with self.assertRaises(words.Failure) as caught:
            complete(CLUSTER + "networking:\n  podSubnet: nonsense\n")
        self.assertEqual(caught.exception.code, 3)
        self.assertIn('networking.podSubnet: Invalid value: "nonsense"', str(caught.exception))

    def test_a_misspelt_field_deep_inside_is_named_with_its_path(self):
        with self.assertRaises(words.Failure) as caught:
            complete(CLUSTER + "networking:\n  podSubnets: 10.244.0.0/16\n")
        self.assertIn('unknown field "networking.podSubnets"', str(caught.exception))

    def test_arguments_as_lists_belong_to_a_later_version(self):
        text = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\nnodeRegistration:\n  kubeletExtraArgs:\n  - {name: v, value: '2'}\n"
        with self.assertRaises(words.Failure) as caught:
            complete(text)
        self.assertIn(
            "cannot unmarshal array into Go struct field InitConfiguration.nodeRegistration.kubeletExtraArgs", str(caught.exception)
        )

    def test_a_version_says_what_it_is_without_disturbing_stdout(self):
        self.assertEqual(run("version", "-o", "short"), (0, "v1.28.4\n", f"({release.NOTICE})\n"))

    def test_what_is_lacking_is_said(self):
        code, _, err = run("upgrade", "plan")
        self.assertEqual(code, 64)
        self.assertIn("the Groundwork lab stand-in lacks this: kubeadm upgrade", err)


class Files(unittest.TestCase):
    """What init writes, against the files of a recorded init."""

    @classmethod
    def setUpClass(cls):
        cls.facts = recorded("init.json")
        cls.init, cls.cluster = complete(cls.facts["input"])

    def test_manifests(self):
        made = manifests.write(self.cluster, "10.99.0.11", 6443, "cp-1")
        for name, want in self.facts["manifests"].items():
            with self.subTest(name):
                container, spec = made[name]["spec"]["containers"][0], made[name]["spec"]
                got = {
                    "command": container["command"],
                    "image": container["image"],
                    "annotations": made[name]["metadata"].get("annotations", {}),
                    "mounts": [f"{mount['mountPath']} {mount['name']}" for mount in container["volumeMounts"]],
                    "volumes": [f"{each['name']} {each['hostPath']['path']} {each['hostPath']['type']}" for each in spec["volumes"]],
                }
                self.assertEqual(got, want)

    def test_kubelet_configuration_and_flags(self):
        made = configuration.kubelet({}, self.cluster["networking"])
        self.assertEqual(words.dump(made), self.facts["kubelet_config"])
        worker = {
            "name": "worker-1",
            "criSocket": "unix:///run/containerd/containerd.sock",
            "kubeletExtraArgs": {"node-labels": "example.test/pool=a"},
        }
        for registration, want in ((self.init["nodeRegistration"], "kubelet_flags"), (worker, "worker_flags")):
            flags = kubeadm_init.kubelet_flags(registration, self.cluster)
            override = f" --hostname-override={registration['name']}"
            self.assertEqual(flags.replace(override, ""), self.facts[want])


CLUSTER = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.28.4\n"

if __name__ == "__main__":
    unittest.main()
