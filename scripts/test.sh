#!/usr/bin/env bash
# Every test: formatting, lints, units, the real protocol, the real Terraform, machines in the lab, real Kubernetes.
#
#   scripts/test.sh             everything (root on Linux; the first time Kubernetes is built too)
#   scripts/test.sh --fast      without the emulated virtual machines
#   scripts/test.sh --terraform PROGRAM    the end-to-end tests alone, with another Terraform, or with OpenTofu
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
# Keys, and an agent of OpenSSH's, for the tests of groundwork_agent.
need_packages ssh-keygen=openssh-client ssh-agent=openssh-client

FAST=
OTHER=
case "${1:-}=${2:-}" in
    =) ;;
    --fast=) FAST=1 ;;
    --terraform=?*) OTHER=$(command -v "$2") || die "$2 is no program." ;;
    *) die "usage: scripts/test.sh [--fast | --terraform PROGRAM]" ;;
esac
STARTED=$(date +%s)
STAGES=()

# stage NAME COMMAND...: runs a stage and keeps its time for the table at the end.
stage() {
    local name=$1 from
    shift
    say "$name"
    from=$(date +%s)
    if ! "$@"; then
        STAGES+=("$(printf '%-46s FAILED after %4d s' "$name" $(($(date +%s) - from)))")
        summary
        exit 1
    fi
    STAGES+=("$(printf '%-46s %4d s' "$name" $(($(date +%s) - from)))")
}

summary() {
    printf '\n'
    printf '%s\n' "${STAGES[@]}"
    printf '%-46s %4d s\n' total $(($(date +%s) - STARTED))
}

# called_terraform PROGRAM COMMAND...: everything the command starts finds the program by that name.
called_terraform() {
    local folder done=0
    folder=$(mktemp -d)
    ln -s "$1" "$folder/terraform"
    PATH=$folder:$PATH "${@:2}" || done=$?
    rm -r "$folder"
    return $done
}

# Licences, bans and sources, by the tool for it, which is built once for all checkouts.
dependencies() {
    local root=$GROUNDWORK_CACHE/cargo-deny-$DENY_VERSION
    [ -x "$root/bin/cargo-deny" ] ||
        cargo install --quiet --locked --root "$root" --target-dir "$CARGO_TARGET_DIR/cargo-deny" \
            cargo-deny --version "$DENY_VERSION" || return 1
    "$root/bin/cargo-deny" --log-level error --locked check licenses bans sources
}
DENY_VERSION=0.20.2

export GROUNDWORK_REQUIRE_TERRAFORM=1 GROUNDWORK_REQUIRE_LAB=1
export CARGO_TERM_COLOR=never
TESTS="cargo test --locked --quiet"
# What the end-to-end tests run is as static as what users get.
MUSL=$(uname -m)-unknown-linux-musl
provider() { zigbuild "$MUSL" --quiet -p terraform-provider-groundwork; }

# Tests that make a cluster, and have the machine to themselves: what waits for a busy control plane proves little.
CLUSTERS=(kubernetes:: upgrade:: life:: ownership:: secrets:: killed::a_cluster kubeconfig:: addons:: mixed::)

# What tests of pipelines run beside Terraform.
tools() {
    need_gitlab_ci_local && export GROUNDWORK_GITLAB_CI_LOCAL=$PROGRAM &&
        need_openbao && export GROUNDWORK_OPENBAO=$PROGRAM
}

# What a user does, with the program that is called terraform.
end_to_end() {
    stage "terraform in an empty root" $TESTS -p groundwork-tests -- empty_root::
    stage "terraform against the lab" $TESTS -p groundwork-tests -- --test-threads 3 \
        --skip qemu --skip nodes:: --skip empty_root:: --skip registry:: --skip ssh:: --skip guest:: "${CLUSTERS[@]/#/--skip=}"
    stage "agents on machines of others" $TESTS -p groundwork-tests -- --test-threads 3 --skip qemu ssh:: guest::
    stage "quickstart from a mirror" $TESTS -p groundwork-tests -- registry::
    stage "real Kubernetes" $TESTS -p groundwork-tests -- --test-threads 1 "${CLUSTERS[@]}"
    stage "real Kubernetes: nodes come and go" $TESTS -p groundwork-tests -- --test-threads 1 nodes::
}

# OpenTofu, built once for all checkouts: `go install` refuses its module for a replacement in it.
opentofu() { go_program github.com/opentofu/opentofu "v$OPENTOFU" ./cmd/tofu; }
OPENTOFU=1.12.6

stage "lab: programs and machine image" scripts/lab.sh prepare --kubernetes none
# The first time this builds it, and says what each part took. The second version is what a cluster is upgraded to: the same code, which costs
# a link of each program in the same run.
kubernetes() { scripts/lab.sh prepare --kubernetes 1.36.3,1.36.4 && scripts/lab.sh prepare; }

stage "lab: Kubernetes" kubernetes
GROUNDWORK_FAKEPVE=$(scripts/lab.sh python)
export GROUNDWORK_FAKEPVE
[ -n "$OTHER" ] || stage "dependencies" dependencies
[ -n "$OTHER" ] || stage "format" cargo fmt --all --check
stage "tools of the tests" tools
stage "agent: of yesterday" build_yesterdays_agent
stage "agent: static binary" build_agent
[ -n "$OTHER" ] || stage "lints" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
stage "provider: static binary" provider
export GROUNDWORK_PROVIDER=$CARGO_TARGET_DIR/$MUSL/debug/terraform-provider-groundwork
if [ -n "$OTHER" ]; then
    called_terraform "$OTHER" end_to_end
    summary
    exit
fi
stage "unit and protocol tests" $TESTS --workspace --exclude groundwork-tests
stage "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps
stage "lab: its own tests" scripts/lab.sh selftest
end_to_end
stage "OpenTofu: the program" opentofu
stage "OpenTofu: quickstart from a mirror" called_terraform "$PROGRAM" $TESTS -p groundwork-tests -- registry::
say "what the cache holds of Kubernetes"
scripts/lab.sh kubernetes
[ -n "$FAST" ] || stage "terraform against virtual machines" $TESTS -p groundwork-tests -- --test-threads 1 qemu --nocapture
summary
