"""Indexes and signatures of a Debian archive, made with dpkg-deb and gpg only."""

import datetime
import gzip
import hashlib
import pathlib
import shutil
import subprocess
import tempfile

KEY_OWNER = "Groundwork lab (throwaway key, trust it nowhere else)"


class CannotSign(Exception):
    """gpg is missing or refuses."""


class Key:
    """A signing key of its own, in a gpg home of its own, gone after forget()."""

    def __init__(self):
        if not shutil.which("gpg"):
            raise CannotSign("gpg is not installed: `apt-get install gnupg`")
        # gpg-agent's socket path has a limit of about 100 characters, so the home is a short one.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="groundwork-key-", dir="/tmp"))
        self._gpg("--quick-generate-key", KEY_OWNER, "rsa3072", "sign", "never")

    def public(self) -> str:
        return self._gpg("--armor", "--export", KEY_OWNER)

    def sign(self, release: pathlib.Path) -> None:
        """Writes InRelease and Release.gpg beside `release`."""
        in_release, detached = release.with_name("InRelease"), release.with_name("Release.gpg")
        self._gpg("--yes", "--clearsign", "--output", str(in_release), str(release))
        self._gpg("--yes", "--armor", "--detach-sign", "--output", str(detached), str(release))

    def forget(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def _gpg(self, *arguments: str) -> str:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, "--quiet", *arguments], text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise CannotSign(f"gpg cannot sign the lab's archive: {done.stderr.strip()}")
        return done.stdout


def write_suite(root: pathlib.Path, codename: str, architecture: str, key: Key) -> None:
    """Indexes root/pool as `deb URL CODENAME main`."""
    suite = root / "dists" / codename
    index = suite / "main" / f"binary-{architecture}"
    index.mkdir(parents=True)
    _write_packages(index, root, sorted((root / "pool").glob("*.deb")))
    fields = {"Suite": codename, "Codename": codename, "Components": "main", "Architectures": architecture}
    _write_release(suite, fields, key)


def write_flat(root: pathlib.Path, architecture: str, key: Key) -> None:
    """Indexes root/ARCH/*.deb as `deb URL /`."""
    _write_packages(root, root, sorted((root / architecture).glob("*.deb")))
    _write_release(root, {"Architectures": architecture}, key)


def _write_packages(directory: pathlib.Path, base: pathlib.Path, debs: list[pathlib.Path]) -> None:
    text = "\n".join(_stanza(deb, base) for deb in debs)
    (directory / "Packages").write_text(text)
    (directory / "Packages.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _stanza(deb: pathlib.Path, base: pathlib.Path) -> str:
    control = subprocess.run(["dpkg-deb", "--field", str(deb)], check=True, text=True, capture_output=True).stdout
    content = deb.read_bytes()
    return control.rstrip("\n") + (
        f"\nFilename: {deb.relative_to(base)}"
        f"\nSize: {len(content)}"
        f"\nMD5sum: {hashlib.md5(content).hexdigest()}"
        f"\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


def _write_release(directory: pathlib.Path, fields: dict[str, str], key: Key) -> None:
    indexes = sorted(directory.rglob("Packages*"))
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S UTC")
    lines = ["Origin: Groundwork lab", "Label: Groundwork lab", "Acquire-By-Hash: no", f"Date: {now}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    for title, function in (("MD5Sum", hashlib.md5), ("SHA256", hashlib.sha256)):
        lines.append(f"{title}:")
        for index in indexes:
            content = index.read_bytes()
            lines.append(f" {function(content).hexdigest()} {len(content)} {index.relative_to(directory)}")
    (directory / "Release").write_text("\n".join(lines) + "\n")
    key.sign(directory / "Release")
