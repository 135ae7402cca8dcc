"""The archive: what apt reads of it, and what the packages say they are."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

from test import HERE

from repository import archive, debian, standins


class Repository(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(cls.folder.name)
        cls.architecture = debian.architecture()
        cls.made = standins.build(HERE.parent / "standin", "1.28", cls.architecture, root / cls.architecture)
        key = archive.Key()
        archive.write_flat(root, cls.architecture, key)
        (root / "Release.key").write_text(key.public())
        key.forget()
        cls.root = root

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def deb(self, name: str) -> pathlib.Path:
        return min((self.root / self.architecture).glob(f"{name}_*.deb"))

    def test_the_newest_release_is_not_the_one_the_examples_want(self):
        self.assertIn("kubeadm=1.28.4-1.1", self.made)
        self.assertIn("kubeadm=1.28.7-1.1", self.made)

    def test_every_description_says_what_it_is(self):
        packages = (self.root / "Packages").read_text()
        self.assertEqual(packages.count(f"Description: {standins.NOTICE}: "), len(self.made))

    def test_a_program_says_what_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["dpkg-deb", "-x", self.deb("kubelet"), folder], check=True)
            unit = pathlib.Path(folder, "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf")
            self.assertIn("KUBELET_KUBEADM_ARGS", unit.read_text())
            done = subprocess.run([sys.executable, f"{folder}/usr/bin/kubelet", "--version"], capture_output=True, text=True, check=True)
        self.assertEqual((done.stdout, done.stderr), ("Kubernetes v1.28.4\n", f"({standins.NOTICE})\n"))

    def test_the_signature_is_good_and_covers_the_index(self):
        with tempfile.TemporaryDirectory() as home:
            ring = f"{home}/ring.gpg"
            subprocess.run(
                ["gpg", "--homedir", home, "--quiet", "--output", ring, "--dearmor", self.root / "Release.key"],
                check=True,
                capture_output=True,
            )
            done = subprocess.run(
                ["gpgv", "--homedir", home, "--keyring", ring, self.root / "InRelease"], capture_output=True, text=True, check=False
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" Packages.gz\n", (self.root / "InRelease").read_text())


if __name__ == "__main__":
    unittest.main()
