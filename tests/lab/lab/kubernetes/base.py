"""The Debian layer below images that need more than one program: kube-proxy and Flannel run iptables and its kin."""

import pathlib
import subprocess
import tarfile

from .. import image
from .toolchain import CannotBuild

PACKAGES = ("conntrack", "coreutils", "dash", "ipset", "iptables", "kmod", "nftables")
# Nothing in an image runs update-alternatives, so these names are made here.
IPTABLES = [f"{family}{verb}" for family in ("iptables", "ip6tables") for verb in ("", "-save", "-restore")]
EXCLUDED = ("man", "doc", "locale", "info", "lintian", "bash-completion", "bug", "perl")


def key() -> str:
    """What the layer is made from, but for the packages the distribution has just now."""
    return f"{image.os_release()} {' '.join(PACKAGES)}"


def build(folder: pathlib.Path) -> pathlib.Path:
    """The layer as a file of `folder`."""
    target = folder / "base.tar"
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
    command = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", f"--include={','.join(PACKAGES)}", *options]
    command += ['--aptopt=APT::Install-Recommends "false"', image.os_release()[1], str(target)]
    command += image.sources(*image.os_release())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"the images' Debian layer cannot be made:\n{done.stderr.strip()[-2000:]}")
    with tarfile.open(target, "a") as layer:
        for name in IPTABLES:
            link = tarfile.TarInfo(f"./usr/local/sbin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/usr/sbin/xtables-nft-multi"
            layer.addfile(link)
    return target
