"""`kubeadm config`: validation, defaults, images."""

import argparse
import json
import pathlib

from standin import configuration, manifests, preflight, release, words
from standin.words import Failure, Lacking, out

SAMPLE_TOKEN = "abcdef.0123456789abcdef"


def validate(options: argparse.Namespace) -> None:
    _complete(configuration.read(options.config))
    out("ok")


def _complete(documents: dict) -> list[dict]:
    """The documents with their defaults, validated."""
    if "JoinConfiguration" in documents:
        made = configuration.join(documents["JoinConfiguration"])
        configuration.validate_join(made)
        return [made]
    cluster = configuration.cluster(documents.get("ClusterConfiguration"))
    made = configuration.init(documents.get("InitConfiguration"))
    configuration.validate_init(made, cluster)
    return [made, cluster]


def migrate(options: argparse.Namespace) -> None:
    text = "---\n".join(words.dump(each) for each in _complete(configuration.read(options.old_config)))
    if options.new_config:
        pathlib.Path(options.new_config).write_text(text)
    else:
        print(text, end="", flush=True)


def _init_defaults(options: argparse.Namespace) -> None:
    made = configuration.init(
        {
            "localAPIEndpoint": {"advertiseAddress": "1.2.3.4"},
            "nodeRegistration": {"name": "node", "taints": []},
            "bootstrapTokens": [{"token": SAMPLE_TOKEN}],
        }
    )
    made["nodeRegistration"]["taints"] = None
    cluster = configuration.cluster({"kubernetesVersion": "1.28.0"})
    cluster["kubernetesVersion"] = "1.28.0"
    documents = [made, cluster]
    if "KubeletConfiguration" in options.component_configs:
        documents.append(configuration.kubelet(None, cluster["networking"]))
    if "KubeProxyConfiguration" in options.component_configs:
        raise Lacking("the defaults of KubeProxyConfiguration")
    print("---\n".join(words.dump(each) for each in documents), end="", flush=True)


def _join_defaults(options: argparse.Namespace) -> None:
    by_token = {"apiServerEndpoint": "kube-apiserver:6443", "token": SAMPLE_TOKEN, "unsafeSkipCAVerification": True}
    made = configuration.join({"discovery": {"bootstrapToken": by_token}})
    made["nodeRegistration"]["taints"] = None
    print(words.dump(made), end="", flush=True)


def _reset_defaults(options: argparse.Namespace) -> None:
    settings = {"certificatesDir": "/etc/kubernetes/pki", "criSocket": configuration.CRI_SOCKET}
    print(words.dump({"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ResetConfiguration", **settings}), end="", flush=True)


PRINTS = {"init-defaults": _init_defaults, "join-defaults": _join_defaults, "reset-defaults": _reset_defaults}


def _images(options: argparse.Namespace) -> dict:
    given = configuration.read(options.config).get("ClusterConfiguration") if options.config else {}
    given = dict(given or {})
    if options.kubernetes_version:
        given["kubernetesVersion"] = options.kubernetes_version
    if options.image_repository:
        given["imageRepository"] = options.image_repository
    return configuration.cluster(given)


def images_list(options: argparse.Namespace) -> None:
    listed = list(manifests.images(_images(options)).values())
    if options.output == "json":
        out(json.dumps({"kind": "Images", "apiVersion": "output.kubeadm.k8s.io/v1alpha2", "images": listed}, indent=4))
    else:
        out("\n".join(listed))


def images_pull(options: argparse.Namespace) -> None:
    """Asks a registry even for what is there, so in the lab it always fails."""
    first = next(iter(manifests.images(_images(options)).values()))
    reason = f"pulling image: failed to pull and unpack image {words.quoted(first)}: no registry in the lab ({release.NOTICE})"
    raise Failure(f"failed to pull image {words.quoted(first)}: output: {preflight.fatal(Exception(reason))}\n, error: exit status 1")
