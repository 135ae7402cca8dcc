"""The archive: what apt reads of it, and that its packages are like upstream's."""

import pathlib
import subprocess
import tempfile
import unittest

from lab.packages import archive, debian, kubernetes


class Repository(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(cls.folder.name)
        programs = root / "programs"
        programs.mkdir()
        for name in ("kubeadm", "kubelet", "kubectl", "crictl", "bridge"):
            (programs / name).write_text("#!/bin/sh\n")
        cls.architecture = debian.architecture()
        pool = root / cls.architecture
        cls.made = kubernetes.build_release("1.36.3", programs, cls.architecture, pool)
        tools = {"crictl": ("1.36.0", programs), "cni-plugins": ("1.9.1", programs)}
        cls.made += kubernetes.build_tools(tools, cls.architecture, pool)
        key = archive.Key()
        archive.write_flat(root, cls.architecture, key)
        (root / "Release.key").write_text(key.public())
        key.forget()
        cls.root = root

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def deb(self, name: str) -> pathlib.Path:
        return next((self.root / self.architecture).glob(f"{name}_*.deb"))

    def field(self, name: str, field: str) -> str:
        done = subprocess.run(["dpkg-deb", "--field", self.deb(name), field], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def content(self, name: str) -> dict[str, str]:
        done = subprocess.run(["dpkg-deb", "--contents", self.deb(name)], check=True, capture_output=True, text=True)
        lines = (line.split() for line in done.stdout.splitlines())
        return {words[5].removeprefix("./").rstrip("/"): words[0] for words in lines}

    def test_versions_are_named_as_on_pkgs_k8s_io(self):
        self.assertIn("kubeadm=1.36.3-1.1", self.made)
        self.assertIn("kubernetes-cni=1.9.1-1.1", self.made)

    def test_only_the_kubelet_needs_another_package_of_kubernetes(self):
        self.assertEqual(self.field("kubelet", "Depends"), kubernetes.KUBELET_NEEDS)
        for name in ("kubeadm", "kubectl", "cri-tools", "kubernetes-cni"):
            self.assertEqual(self.field(name, "Depends"), "")

    def test_the_drop_in_is_kubeadms_and_the_unit_is_the_kubelets(self):
        units = "usr/lib/systemd/system"
        self.assertIn(f"{units}/kubelet.service.d/10-kubeadm.conf", self.content("kubeadm"))
        kubelet = self.content("kubelet")
        self.assertIn(f"{units}/kubelet.service", kubelet)
        self.assertEqual(kubelet["etc/kubernetes/manifests"], "drwxrwxr-x")
        self.assertIn("var/lib/kubelet/.kubelet-keep", kubelet)

    def test_installing_the_kubelet_enables_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["dpkg-deb", "--control", self.deb("kubelet"), folder], check=True)
            scripts = pathlib.Path(folder, "postinst").read_text()
        self.assertNotIn("enable", scripts)
        self.assertNotIn(" start", scripts)

    def test_the_signature_is_good_and_covers_the_index(self):
        with tempfile.TemporaryDirectory() as home:
            ring = f"{home}/ring.gpg"
            dearmor = ["gpg", "--homedir", home, "--quiet", "--output", ring, "--dearmor", self.root / "Release.key"]
            subprocess.run(dearmor, check=True, capture_output=True)
            check = ["gpgv", "--homedir", home, "--keyring", ring, self.root / "InRelease"]
            done = subprocess.run(check, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" Packages.gz\n", (self.root / "InRelease").read_text())


if __name__ == "__main__":
    unittest.main()
