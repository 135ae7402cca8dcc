#!/usr/bin/env bash
# Every test: formatting, lints, units, the real protocol, the real Terraform, machines in the lab, real Kubernetes.
#
#   scripts/test.sh             what every change must pass (root on Linux; the first time Kubernetes is built too)
#   scripts/test.sh --fast      without the emulated virtual machines
#   scripts/test.sh --long      with the long stories of clusters too, which take hours, and OpenTofu: for the night
#   scripts/test.sh --terraform PROGRAM    the end-to-end tests alone, with another Terraform, or with OpenTofu
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
# Keys, and an agent of OpenSSH's, for the tests of groundwork_agent.
need_packages ssh-keygen=openssh-client ssh-agent=openssh-client

FAST=
LONG=
OTHER=
case "${1:-}=${2:-}" in
    =) ;;
    --fast=) FAST=1 ;;
    --long=) LONG=1 ;;
    --terraform=?*) OTHER=$(command -v "$2") || die "$2 is no program." ;;
    *) die "usage: scripts/test.sh [--fast | --long | --terraform PROGRAM]" ;;
esac
STARTED=$(date +%s)
STAGES=()

# stage NAME COMMAND...: runs a stage and keeps its time for the table at the end, and how busy the processors were.
stage() {
    local name=$1 from ticks done=0
    shift
    say "$name"
    from=$(date +%s)
    ticks=$(ticks)
    "$@" || done=$?
    STAGES+=("$(printf '%-46s %4d s %s%s' "$name" $(($(date +%s) - from)) "$(busy "$ticks")" "$([ "$done" = 0 ] || echo '  FAILED')")")
    [ "$done" = 0 ] || {
        summary
        exit 1
    }
}

# Since the start, of all processors: what they did, and what they could have done.
ticks() { awk '/^cpu /{ print $2 + $3 + $4 + $7 + $8, $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9 }' /proc/stat; }
busy() { echo "$1 $(ticks)" | awk '$4 > $2 { printf "%3d %% busy", 100 * ($3 - $1) / ($4 - $2) }'; }

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

# Licences, bans and sources, by the tool for it, which is built once for all checkouts: elsewhere, for a target folder that is not empty gets no
# compiled crates from the cache.
dependencies() {
    local root=$GROUNDWORK_CACHE/cargo-deny-$DENY_VERSION
    if [ ! -x "$root/bin/cargo-deny" ]; then
        # It runs for a second: what a build without optimization saves is minutes.
        cargo install --quiet --debug --locked --root "$root" --target-dir "$root/target" cargo-deny --version "$DENY_VERSION" || return 1
        rm -r "$root/target"
    fi
    "$root/bin/cargo-deny" --log-level error --locked check licenses bans sources
}
DENY_VERSION=0.20.2

export GROUNDWORK_REQUIRE_TERRAFORM=1 GROUNDWORK_REQUIRE_LAB=1
export CARGO_TERM_COLOR=never
# Tests and what they run are as static as what users get, and of one build: always of the whole workspace, because what a crate of others
# is compiled with is decided by all crates together.
MUSL=$(uname -m)-unknown-linux-musl
everything() { build_yesterdays_agent && zigbuild "$MUSL" --quiet --workspace --bins --tests; }
lints() { zig_cargo "$MUSL" clippy --quiet --workspace --all-targets -- -D warnings; }
documentation() { RUSTDOCFLAGS="-D warnings" zig_cargo "$MUSL" doc --quiet --workspace --no-deps; }
units() { zig_cargo "$MUSL" test --quiet --workspace --exclude groundwork-tests; }
TESTS="zig_cargo $MUSL test --quiet --workspace --test it"

# Tests that make a cluster of their own, or many machines.
CLUSTERS=(kubernetes:: life:: ownership:: secrets:: killed:: kubeconfig:: k3s::)
LIVES=(nodes:: upgrade::)
# Long ones, each of which costs as much as all of those. They look for GROUNDWORK_LONG.
STORIES=(ha:: manifests:: snapshots:: mixed:: taken_over:: killed:: k3s:: life:: upgrade:: guest:: ssh::cut addons:: routed:: cuts:: crowd::)

readings() { lints && documentation; }

# both ONE OTHER: two at once, for what waits for half of its time. The other's output comes after the one's.
both() {
    local one=0 other=0 said running from
    from=$(date +%s)
    said=$(mktemp)
    ("$2" && echo "$2: $(($(date +%s) - from)) s") >"$said" 2>&1 &
    running=$!
    "$1" || one=$?
    echo "$1: $(($(date +%s) - from)) s"
    wait "$running" || other=$?
    cat "$said"
    rm "$said"
    return $((one + other))
}

# What tests run beside Terraform: pipelines, a vault, and a bucket of S3.
tools() {
    need_gitlab_ci_local && export GROUNDWORK_GITLAB_CI_LOCAL=$PROGRAM &&
        need_openbao && export GROUNDWORK_OPENBAO=$PROGRAM &&
        go_program github.com/versity/versitygw "v$VERSITYGW" ./cmd/versitygw && export GROUNDWORK_VERSITYGW=$PROGRAM
}
VERSITYGW=1.8.0

# What a user does, with the program that is called terraform. Machines in containers, but for the last.
lab_tests() {
    $TESTS -- --test-threads 2 --skip qemu --skip empty_root:: --skip registry:: --skip ssh:: --skip guest:: \
        "${CLUSTERS[@]/#/--skip=}" "${LIVES[@]/#/--skip=}" "${STORIES[@]/#/--skip=}"
}
# A control plane that starts again is waited for longer than it works.
cluster_tests() { $TESTS -- --test-threads 3 "${CLUSTERS[@]}"; }
lives_of_clusters() { $TESTS -- --test-threads 2 "${LIVES[@]}"; }
others_machines() { $TESTS -- --test-threads 2 --skip qemu ssh:: guest:: && { [ -n "$FAST$OTHER" ] || virtual_machines; }; }
virtual_machines() { $TESTS -- --test-threads 1 qemu --nocapture; }
story() { GROUNDWORK_LONG=1 $TESTS -- --test-threads 2 --nocapture "$1"; }

# A user's first steps: Terraform where nothing else is, and the provider from a mirror.
first_steps() { $TESTS -- --test-threads 1 empty_root:: registry::; }
lab_and_first_steps() { scripts/lab.sh selftest && first_steps; }
from_a_mirror() { $TESTS -- registry::; }

end_to_end() {
    stage "terraform against the lab; real Kubernetes" both lab_tests cluster_tests
    stage "machines of others, virtual ones; nodes" both others_machines lives_of_clusters
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
# The lab's etcd, for the agent's client of it.
GROUNDWORK_ETCD=$(find "$GROUNDWORK_CACHE/kubernetes/programs" -path '*/etcd=*/server' | sort | tail -n 1)
export GROUNDWORK_ETCD
[ -n "$OTHER" ] || stage "dependencies" dependencies
[ -n "$OTHER" ] || stage "format" cargo fmt --all --check
stage "tools of the tests" tools
COMPILED=("$GROUNDWORK_CACHE" "$CARGO_TARGET_DIR" "$ZIG $ZIGBUILD")
stage "compiled crates of others" python3 scripts/compiled.py take "${COMPILED[@]}"
if [ -n "$OTHER" ]; then
    stage "agent: static binary" build_agent
else
    # An agent's build ends with one long link: what reads the same sources goes on beside it.
    stage "agent: static binary; lints, documentation" both build_agent readings
fi
stage "provider and tests: static binaries" everything
export GROUNDWORK_PROVIDER=$CARGO_TARGET_DIR/$MUSL/debug/terraform-provider-groundwork
if [ -n "$OTHER" ]; then
    called_terraform "$OTHER" stage "empty root; quickstart from a mirror" first_steps
    called_terraform "$OTHER" end_to_end
    summary
    exit
fi
# Both wait for half of their time.
stage "units, protocol; lab, empty root, mirror" both units lab_and_first_steps
stage "compiled crates of others are kept" python3 scripts/compiled.py keep "${COMPILED[@]}"
end_to_end
say "what the cache holds of Kubernetes"
scripts/lab.sh kubernetes
if [ -n "$LONG" ]; then
    stage "OpenTofu: the program" opentofu
    stage "OpenTofu: quickstart from a mirror" called_terraform "$PROGRAM" from_a_mirror
    for STORY in "${STORIES[@]}"; do
        stage "long story: $STORY" story "$STORY"
    done
fi
summary
