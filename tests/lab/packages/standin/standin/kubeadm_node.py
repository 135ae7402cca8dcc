"""`kubeadm reset`, and what concerns certificates of a node: check-expiration, certificate-key, kubeconfig user."""

import argparse
import datetime
import os
import pathlib
import secrets
import shutil
import subprocess
import sys

from cryptography import x509

from standin import client, configuration, cri, kubeconfig, paths, pki, preflight, words
from standin.words import Failure, Lacking, out

CONFIGURATION = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
LEFT = """
The reset process does not clean CNI configuration. To do so, you must remove /etc/cni/net.d

The reset process does not reset or clean up iptables rules or IPVS tables.
If you wish to reset iptables, you must do so manually by using the "iptables" command.

If your cluster was setup to utilize IPVS, run ipvsadm --clear (or similar)
to reset your system's IPVS tables.

The reset process does not clean your kubeconfig files and you must remove them manually.
Please, check the contents of the $HOME/.kube/config file.
"""


def reset(options: argparse.Namespace) -> None:
    if options.dry_run or options.config:
        raise Lacking("reset --dry-run and --config")
    if not options.force:
        words.warning("preflight.go:56", "[reset] WARNING: Changes made to this host by 'kubeadm init' or 'kubeadm join' will be reverted.")
        print("[reset] Are you sure you want to proceed? [y/N]: ", end="", flush=True)
        if sys.stdin.readline().strip().lower() != "y":
            out()
            raise Failure("error execution phase preflight: won't proceed; the user didn't answer (Y|y) in order to continue")
    cluster = _read_cluster(options)
    try:
        preflight.before_reset()
    except Failure as failure:
        raise Failure(f"error execution phase preflight: {failure}") from failure
    _remove_etcd(cluster)
    unmounted = _clean(options)
    _delete(options, unmounted)
    out(LEFT.rstrip("\n"))


def _read_cluster(options: argparse.Namespace) -> dict | None:
    """None on a worker, and when the API server does not answer."""
    admin = pathlib.Path(options.kubeconfig) if options.kubeconfig else paths.ADMIN
    if os.geteuid() != 0 or not admin.exists():
        return None
    out("[reset] Reading configuration from the cluster...")
    out("[reset] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'")
    try:
        stored = client.Api(kubeconfig.read(admin)).get(f"{CONFIGURATION}?timeout=10s")
        return words.load(stored["data"]["ClusterConfiguration"])
    except (client.Unreachable, client.Refused) as problem:
        words.warning(
            "reset.go:120", f"[reset] Unable to fetch the kubeadm-config ConfigMap from cluster: failed to get config map: {problem}"
        )
        return None


def _remove_etcd(cluster: dict | None) -> None:
    folder = paths.ETCD
    if cluster is None:
        words.warning("removeetcdmember.go:106", "[reset] No kubeadm config, using etcd pod spec to get data directory")
    else:
        folder = paths.ROOT / cluster["etcd"]["local"]["dataDir"].lstrip("/")
    # The real one finds a manifest that is there and has no readable data directory to be an external etcd.
    manifest = paths.MANIFESTS / "etcd.yaml"
    if cluster is None and manifest.exists() and "etcd-data" not in manifest.read_text():
        out("[reset] No etcd config found. Assuming external etcd")
        out("[reset] Please, manually reset etcd to prevent further issues")
        return
    _stop_static_pods()
    for each in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    out(f"[reset] Deleted contents of the etcd data directory: {folder}")


def _stop_static_pods() -> None:
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "stop", paths.STATIC_PODS_UNIT], capture_output=True, check=False)


def _clean(options: argparse.Namespace) -> bool:
    """Stops the kubelet and the pods; whether there is a kubelet directory to empty."""
    if shutil.which("systemctl"):
        out("[reset] Stopping the kubelet service")
        subprocess.run(["systemctl", "stop", "kubelet"], capture_output=True, check=False)
    else:
        text = "The kubelet service could not be stopped by kubeadm. Unable to detect a supported init system!"
        words.warning("cleanupnode.go:69", f"[reset] {text}")
        words.warning("cleanupnode.go:70", "[reset] Please ensure kubelet is stopped manually")
    out(f'[reset] Unmounting mounted directories in "{paths.KUBELET}"')
    there = paths.KUBELET.exists()
    if not there:
        text = f'Failed to evaluate the "{paths.KUBELET}" directory. Skipping its unmount and cleanup'
        words.warning("cleanupnode.go:134", f"[reset] {text}: lstat {paths.KUBELET}: no such file or directory")
    _stop_static_pods()
    _remove_pods(options)
    return there


def _remove_pods(options: argparse.Namespace) -> None:
    failed = "[reset] Failed to remove containers"
    if not shutil.which("crictl"):
        words.warning("cleanupnode.go:99", f"{failed}: crictl is required by the container runtime: executable file not found in $PATH")
        return
    try:
        runtime = cri.Runtime(options.cri_socket or configuration.CRI_SOCKET)
        for sandbox in runtime.sandboxes():
            runtime.stop(sandbox["id"])
            runtime.remove(sandbox["id"])
    except cri.NotRunning as problem:
        words.warning("cleanupnode.go:99", f"{failed}: output: {preflight.fatal(problem)}\n, error: exit status 1")


def _delete(options: argparse.Namespace, kubelet_there: bool) -> None:
    folders = [paths.MANIFESTS, *([paths.KUBELET] if kubelet_there else []), pathlib.Path(options.cert_dir or paths.PKI)]
    if options.cleanup_tmp_dir:
        folders.append(paths.TMP)
    out(f"[reset] Deleting contents of directories: [{' '.join(map(str, folders))}]")
    for folder in folders:
        for each in folder.iterdir() if folder.is_dir() else ():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()
    files = [paths.KUBERNETES / f"{name}.conf" for name in paths.CONFIGURATIONS]
    out(f"[reset] Deleting files: [{' '.join(map(str, files))}]")
    for file in files:
        file.unlink(missing_ok=True)


# --- certificates


def certificate_key(options: argparse.Namespace) -> None:
    out(secrets.token_hex(32))


# name shown: (file, authority shown)
CERTIFICATES = {
    "admin.conf": ("admin.conf", "ca"),
    "apiserver": ("pki/apiserver.crt", "ca"),
    "apiserver-etcd-client": ("pki/apiserver-etcd-client.crt", "etcd-ca"),
    "apiserver-kubelet-client": ("pki/apiserver-kubelet-client.crt", "ca"),
    "controller-manager.conf": ("controller-manager.conf", "ca"),
    "etcd-healthcheck-client": ("pki/etcd/healthcheck-client.crt", "etcd-ca"),
    "etcd-peer": ("pki/etcd/peer.crt", "etcd-ca"),
    "etcd-server": ("pki/etcd/server.crt", "etcd-ca"),
    "front-proxy-client": ("pki/front-proxy-client.crt", "front-proxy-ca"),
    "scheduler.conf": ("scheduler.conf", "ca"),
}
AUTHORITIES = {"ca": "pki/ca.crt", "etcd-ca": "pki/etcd/ca.crt", "front-proxy-ca": "pki/front-proxy-ca.crt"}


def check_expiration(options: argparse.Namespace) -> None:
    if not (paths.PKI / "apiserver.key").exists():
        _show(
            [
                ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED"),
                *((f"!MISSING! {name}", "", "", "", "") for name in CERTIFICATES),
            ]
        )
        out()
        key = paths.PKI / "apiserver.key"
        where = f"couldn't load the private key file {key}: open {key}: no such file or directory"
        raise Failure(f"Error checking external CA condition for ca certificate authority: failure loading key for apiserver: {where}")
    out("[check-expiration] Reading configuration from the cluster...")
    out("[check-expiration] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'")
    out()
    rows = [("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED")]
    rows += [(name, *_life(paths.KUBERNETES / file), authority, "no") for name, (file, authority) in CERTIFICATES.items()]
    _show(rows)
    out()
    rows = [("CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED")]
    _show(rows + [(name, *_life(paths.KUBERNETES / file), "no") for name, file in AUTHORITIES.items()])


def _life(file: pathlib.Path) -> tuple[str, str]:
    content = kubeconfig.read(file).certificate if file.suffix == ".conf" else file.read_bytes()
    certificate = x509.load_pem_x509_certificate(content)
    end = pki.expires(certificate)
    left = end - datetime.datetime.now(datetime.timezone.utc)
    residual = f"{left.days // 365}y" if left.days >= 2 * 365 else f"{left.days}d"
    return f"{end:%b %d, %Y %H:%M} UTC", residual


def _show(rows: list[tuple]) -> None:
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    for index, row in enumerate(rows):
        line = "".join(cell.ljust(width) for cell, width in zip(row, widths))
        out(line.rstrip() if index == 0 else line[: sum(widths[:-1])] + row[-1].ljust(8 if row[-1] else 0))


def user(options: argparse.Namespace) -> None:
    """Prints a kubeconfig of a new user, signed with the cluster's CA."""
    documents = configuration.read(options.config) if options.config else {}
    cluster = documents.get("ClusterConfiguration") or _stored_cluster()
    made = configuration.init(documents.get("InitConfiguration"))
    endpoint = (
        cluster.get("controlPlaneEndpoint") or f"{made['localAPIEndpoint']['advertiseAddress']}:{made['localAPIEndpoint']['bindPort']}"
    )
    server, name = f"https://{endpoint}", cluster.get("clusterName", "kubernetes")
    ca = pki.load(paths.PKI / "ca")
    if options.token:
        out(kubeconfig.document(name, server, ca.pem(), options.client_name, {"token": options.token}))
        return
    if len(options.org) > 1:
        raise Lacking("more than one --org")
    key = pki.new_key()
    life = datetime.timedelta(seconds=words.seconds(options.validity_period))
    subject = pki.distinguished_name(options.client_name, (options.org or [None])[0])
    pair = pki.Pair(pki.certify(ca, key.public_key(), subject, [pki.CLIENT], life=life), key)
    credentials = {"client-certificate-data": kubeconfig.data(pair.pem()), "client-key-data": kubeconfig.data(pair.key_pem())}
    out(kubeconfig.document(name, server, ca.pem(), options.client_name, credentials))


def _stored_cluster() -> dict:
    try:
        stored = client.Api(kubeconfig.read(paths.ADMIN)).get(CONFIGURATION)
    except OSError as problem:
        raise Failure(f"failed to load admin kubeconfig: open {paths.ADMIN}: no such file or directory") from problem
    except (client.Unreachable, client.Refused) as problem:
        raise Failure(str(problem)) from problem
    return words.load(stored["data"]["ClusterConfiguration"])
