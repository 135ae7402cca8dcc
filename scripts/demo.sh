#!/usr/bin/env bash
# Groundwork on this machine: builds it, starts the lab and applies examples/quickstart to it.
#
#   scripts/demo.sh                          containers as machines, and a real Kubernetes on them
#   scripts/demo.sh --kubernetes real        … built from its Go modules: some ten minutes on two cores, the first time
#   scripts/demo.sh --kubernetes upstream    … from pkgs.k8s.io and registry.k8s.io
#   scripts/demo.sh --kubernetes none        the machines alone
#   scripts/demo.sh --backend qemu           virtual machines (slow without KVM)
#   scripts/demo.sh --destroy                takes everything away again
#
# Without --kubernetes the shortest way is taken: the one that was built before, else upstream's, else, on a computer
# with no way to it, the machines alone.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

BACKEND=nspawn
DESTROY=
KUBERNETES=
FROM_WHERE=()
BEGAN=$(date +%s)
while [ $# -gt 0 ]; do
    case $1 in
        --backend) BACKEND=$2; shift ;;
        --kubernetes) KUBERNETES=$2; shift ;;
        --destroy) DESTROY=1 ;;
        *) die "usage: scripts/demo.sh [--backend nspawn|qemu] [--kubernetes real|upstream|none] [--destroy]" ;;
    esac
    shift
done
case $KUBERNETES in '' | real | upstream | none) ;; *) die "--kubernetes takes real, upstream or none." ;; esac
[ "$(id -u)" = 0 ] || die "The lab needs root for its network namespace and machines: sudo scripts/demo.sh"

DEMO=$GROUNDWORK_CACHE/demo
LAB=$DEMO/lab
WORK=$DEMO/quickstart
MIRROR=$DEMO/providers

# tf ARGS: terraform in the demo's folder, as a user would run it there.
tf() { (cd "$WORK" && TF_CLI_CONFIG_FILE=$DEMO/terraform.rc terraform "$@"); }

if [ -n "$DESTROY" ]; then
    if [ -f "$LAB/lab.env" ]; then
        set -a; source "$LAB/lab.env"; set +a
        if [ -f "$WORK/terraform.tfstate" ]; then
            say "terraform destroy"
            tf destroy -auto-approve -input=false || say "destroy failed; the lab takes its machines away itself"
        fi
        say "stopping the lab"
        scripts/lab.sh stop --dir "$LAB"
    fi
    rm -rf "$DEMO"
    say "nothing is left"
    exit
fi

RUNNING=
[ ! -f "$LAB/lab.env" ] || RUNNING=$(scripts/lab.sh status --dir "$LAB" 2>/dev/null | sed -n 's/^backend: //p') || true
[ "${RUNNING:-$BACKEND}" = "$BACKEND" ] ||
    die "A demo with the backend $RUNNING still runs: take it away with scripts/demo.sh --destroy, then start this one again."
[ -z "$RUNNING" ] || [ -z "$KUBERNETES" ] ||
    die "A demo still runs, with the Kubernetes it has: take it away with scripts/demo.sh --destroy, then start this one again."

say "building the agent and the provider (the first time takes some minutes)"
build_agent
build_provider

mkdir -p "$WORK"
if [ -z "$RUNNING" ]; then
    [ -n "$KUBERNETES" ] || KUBERNETES=$(scripts/lab.sh kubernetes --nearest)
    say "starting the lab ($BACKEND, Kubernetes: $KUBERNETES)"
    [ "$KUBERNETES" = real ] || FROM_WHERE=(--kubernetes "$KUBERNETES")
    scripts/lab.sh start --backend "$BACKEND" --name demo --dir "$LAB" "${FROM_WHERE[@]}"
fi
set -a; source "$LAB/lab.env"; set +a

# A mirror on disk stands in for the registry, so that `terraform init` works as it does for users.
mirror_provider "$MIRROR"
cat >"$DEMO/terraform.rc" <<RC
provider_installation {
  filesystem_mirror {
    path    = "$MIRROR"
    include = ["registry.terraform.io/groundwork-tf/groundwork"]
  }
}
RC

cp examples/quickstart/*.tf examples/quickstart/*.yaml "$WORK/"
cp "$LAB/quickstart.tfvars.json" "$WORK/terraform.tfvars.json"
cp "$LAB/quickstart_override.tf.json" "$WORK/lab_override.tf.json"
rm -f "$WORK/.terraform.lock.hcl"
[ -d "$WORK/pki" ] || "$PROVIDER_BINARY" pki init "$WORK/pki"

say "terraform init"
tf init -input=false
say "terraform apply: an image, two machines${LAB_KUBERNETES_VERSION:+, a cluster}"
FROM=$(date +%s)
tf apply -auto-approve -input=false
say "applied in $(($(date +%s) - FROM)) s"
tf plan -input=false -detailed-exitcode >/dev/null && say "a second plan has no changes"

# on_cp ARGS: kubectl on the control plane.
on_cp() { scripts/lab.sh exec --dir "$LAB" cp-1 -- kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"; }

# A pod behind a service, and what the cluster says of itself.
show_cluster() {
    tf output -raw kubeconfig >"$DEMO/kubeconfig"
    chmod 0600 "$DEMO/kubeconfig"
    say "kubectl run web, and its page by way of a service"
    on_cp get pod web >/dev/null 2>&1 || {
        on_cp run web --image=registry.k8s.io/e2e-test-images/agnhost:2.53 --port=8080 -- netexec
        on_cp expose pod web --port=80 --target-port=8080
    }
    on_cp wait --for=condition=Ready pod/web --timeout=5m
    on_cp -n kube-system wait --for=condition=Available deployment/coredns --timeout=5m
    on_cp get --raw /api/v1/namespaces/default/services/web:80/proxy/hostname
    printf '\n'
    say "kubectl get nodes -o wide"
    on_cp get nodes -o wide
    say "kubectl get pods -A"
    on_cp get pods -A
}
[ -z "${LAB_KUBERNETES_VERSION:-}" ] || show_cluster
say "done in $(($(date +%s) - BEGAN)) s"

cat <<END

What to look at:
  scripts/lab.sh list --dir $LAB                         machines, disks and files the lab holds
END
[ -z "${LAB_KUBERNETES_VERSION:-}" ] || cat <<END
  scripts/lab.sh exec --dir $LAB cp-1 -- kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes
END
cat <<END
  scripts/lab.sh exec --dir $LAB worker-1 -- rm /etc/motd    make a difference, and then see it:
  cd $WORK && set -a && . $LAB/lab.env && set +a && TF_CLI_CONFIG_FILE=$DEMO/terraform.rc terraform plan
END
if [ -z "${LAB_KUBERNETES_VERSION:-}" ]; then
    cat <<END

These machines form no cluster: no Kubernetes was built on this computer before, and it reaches no pkgs.k8s.io, or you asked for none.
  scripts/demo.sh --destroy && scripts/demo.sh --kubernetes real    builds it from its Go modules, some ten minutes on two cores
END
elif command -v kubectl >/dev/null; then
    # The kubeconfig's credential plugin is the provider: kubectl looks for it on PATH, and it looks for the agents' CA.
    cat <<END
  PATH=${PROVIDER_BINARY%/*}:\$PATH GROUNDWORK_AGENT_PKI_DIR=$WORK/pki kubectl --kubeconfig $DEMO/kubeconfig get nodes
END
fi
cat <<END

  scripts/demo.sh --destroy                              takes everything away
END
