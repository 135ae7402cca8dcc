#!/usr/bin/env bash
# Every test: formatting, lints, units, the real protocol, the real Terraform, machines in the lab, real Kubernetes.
#
#   scripts/test.sh             everything (root on Linux; the first time Kubernetes is built too)
#   scripts/test.sh --fast      without the emulated virtual machines
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

FAST=
[ "${1:-}" = --fast ] && FAST=1
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

# Tests that make a cluster, and have the machine to themselves: what waits for a busy control plane proves little.
CLUSTERS=(registry:: kubernetes:: life:: ownership:: secrets:: killed::a_cluster)

stage "lab: programs and machine image" scripts/lab.sh prepare --kubernetes none
# The first time this builds it, and says what each part took.
stage "lab: Kubernetes" scripts/lab.sh prepare
GROUNDWORK_FAKEPVE=$(scripts/lab.sh python)
export GROUNDWORK_FAKEPVE
stage "dependencies" dependencies
stage "format" cargo fmt --all --check
stage "agent: of yesterday" build_yesterdays_agent
stage "agent: static binary" build_agent
stage "lints" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
stage "provider: static binary" zigbuild "$MUSL" --quiet -p terraform-provider-groundwork
export GROUNDWORK_PROVIDER=$CARGO_TARGET_DIR/$MUSL/debug/terraform-provider-groundwork
stage "unit and protocol tests" $TESTS --workspace --exclude groundwork-tests
stage "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps
stage "lab: its own tests" scripts/lab.sh selftest
stage "terraform in an empty root" $TESTS -p groundwork-tests -- empty_root::
stage "terraform against the lab" $TESTS -p groundwork-tests -- --test-threads 3 \
    --skip qemu --skip nodes:: --skip empty_root:: "${CLUSTERS[@]/#/--skip=}"
stage "real Kubernetes" $TESTS -p groundwork-tests -- --test-threads 1 "${CLUSTERS[@]}"
stage "real Kubernetes: nodes come and go" $TESTS -p groundwork-tests -- --test-threads 1 nodes::
say "what the cache holds of Kubernetes"
scripts/lab.sh kubernetes
[ -n "$FAST" ] || stage "terraform against virtual machines" $TESTS -p groundwork-tests -- --test-threads 1 qemu --nocapture
summary
