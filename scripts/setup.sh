#!/usr/bin/env bash
# Installs what building, testing and the lab need on Debian or Ubuntu; quick when everything is there.
# Sourced by the other scripts, after which `cargo`, `terraform` and GROUNDWORK_CACHE are usable.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export GROUNDWORK_CACHE=${GROUNDWORK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/groundwork}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
mkdir -p "$GROUNDWORK_CACHE"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# need_packages COMMAND=PACKAGE...: installs the packages whose command is missing.
need_packages() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] || die "Missing: ${missing[*]}. Run as root once, or: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-remove --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt did not install ${missing[*]}. It removes nothing for it: see what stands in the way with apt-get install --simulate ${missing[*]}"
}

# Write-only attributes, such as the password of `cloud_init`, came with Terraform 1.11.
need_terraform() {
    local found=
    ! command -v terraform >/dev/null || found=$(terraform version | sed -n 's/^Terraform v//p')
    [ "$(printf '%s\n' 1.11 "$found" | sort -V | head -n 1)" = 1.11 ] ||
        die "Terraform 1.11 or later is needed, and here is ${found:-none}: install it as https://developer.hashicorp.com/terraform/install describes."
}

# Rust by rustup, which reads rust-toolchain.toml: Debian's own package where there is one, else the official installer.
need_rust() {
    export PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null && return
    if ! command -v rustup >/dev/null; then
        if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
            need_packages rustup=rustup
        else
            say "installing Rust with rustup"
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -y --quiet --profile minimal --default-toolchain none --no-modify-path ||
                die "Rust could not be installed: do it as https://www.rust-lang.org/tools/install describes."
        fi
    fi
    command -v cargo >/dev/null || rustup toolchain install --profile minimal
    command -v cargo >/dev/null ||
        die "cargo is missing: install Rust as https://www.rust-lang.org/tools/install describes."
}

# The agent as users get it: one static file, for this machine's architecture.
build_agent() {
    local target
    target=$(rustc -vV | sed -n 's/^host: //p')
    AGENT_BINARY=$CARGO_TARGET_DIR/$target/agent/groundwork-agent
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --quiet -p groundwork-agent --profile agent --target "$target" || return 1
    case $target in
        x86_64-*) export GROUNDWORK_AGENT_X86_64=$AGENT_BINARY ;;
        aarch64-*) export GROUNDWORK_AGENT_AARCH64=$AGENT_BINARY ;;
        *) die "no agent for $target yet: build on x86_64 or aarch64 Linux." ;;
    esac
}

# An agent of an earlier version that does not know all of today's settings, for tests. The agent itself is built after it.
build_yesterdays_agent() {
    local target
    target=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --quiet -p groundwork-agent --profile agent --target "$target" \
        --features yesterday || return 1
    export GROUNDWORK_AGENT_YESTERDAY=$CARGO_TARGET_DIR/$target/agent/groundwork-agent-yesterday
    cp "$CARGO_TARGET_DIR/$target/agent/groundwork-agent" "$GROUNDWORK_AGENT_YESTERDAY"
}

# The provider as users get it, with that agent inside.
build_provider() {
    say "building the agent and the provider (the first time takes some minutes)"
    build_agent
    cargo build --locked --release -p terraform-provider-groundwork
    PROVIDER_BINARY=$CARGO_TARGET_DIR/release/terraform-provider-groundwork
}

# mirror_provider DIR: puts the built provider into DIR, laid out as a mirror of the registry, where `terraform init` finds it.
mirror_provider() {
    local version platform
    version=$("$PROVIDER_BINARY" version | sed 's/.* //')
    case $(uname -m) in
        x86_64) platform=linux_amd64 ;;
        *) platform=linux_arm64 ;;
    esac
    install -D -m 0755 "$PROVIDER_BINARY" \
        "$1/registry.terraform.io/groundwork-tf/groundwork/$version/$platform/terraform-provider-groundwork_v$version"
}

PROGRAMS=(cc=gcc git=git curl=curl)
# What has no command of its own gets a name that never exists, so that its package is asked for.
echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null || PROGRAMS+=(c-library=libc6-dev)
need_packages "${PROGRAMS[@]}"
need_terraform
need_rust
