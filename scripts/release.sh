#!/usr/bin/env bash
# Makes a release on one Debian x86_64 machine: what registries and mirrors of Terraform and OpenTofu want, and the agent's packages.
#
#   scripts/release.sh                              everything, into target/release-VERSION
#   scripts/release.sh --platform linux_amd64       one platform; may be said more than once
#   scripts/release.sh --version V                  fails unless this tree is that version (a pipeline gives its tag)
#   scripts/release.sh --dest DIR                   another folder, which must not be there yet
#   scripts/release.sh --gpg-key KEY                signs SHA256SUMS
#   scripts/release.sh --check-reproducible all     builds every platform a second time elsewhere and compares; by default that is done
#                                                   for the agents and the first platform; `none` does without
#
# What is built is the commit, in a folder of its own, not what else lies in the working tree.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

declare -A TARGETS=(
    [linux_amd64]=x86_64-unknown-linux-musl [linux_arm64]=aarch64-unknown-linux-musl
    [darwin_amd64]=x86_64-apple-darwin [darwin_arm64]=aarch64-apple-darwin
    [windows_amd64]=x86_64-pc-windows-gnu
)
# What a program may load at its start: nothing on Linux, and elsewhere what is part of the system.
declare -A LIBRARIES=(
    [linux]='^$'
    [darwin]='^/usr/lib/lib(System\.B|iconv\.2|resolv\.9|objc\.A)\.dylib$|^/System/Library/Frameworks/'
    [windows]='^(api-ms-win-|(advapi32|bcrypt|bcryptprimitives|iphlpapi|kernel32|msvcrt|ntdll|oleaut32|secur32|userenv|user32|ws2_32|crypt32|synchronization)\.dll$)'
)
# An archive with both agents inside, in bytes: what docs/benchmarks.md promises.
LARGEST=16000000
ALL=(linux_amd64 linux_arm64 darwin_amd64 darwin_arm64 windows_amd64)
AGENTS=(x86_64 aarch64)

PLATFORMS=()
VERSION=$(workspace_version)
DEST=
KEY=
CHECK=one
while [ $# -gt 0 ]; do
    case "$1=${2:-}" in
        --platform=?*) PLATFORMS+=("$2"); [ -n "${TARGETS[$2]:-}" ] || die "no platform $2: one of ${ALL[*]}" ;;
        --version=?*) [ "${2#v}" = "$VERSION" ] || die "this tree is $VERSION, not ${2#v}: the version stands in Cargo.toml." ;;
        --dest=?*) DEST=$(realpath -m "$2") ;;
        --gpg-key=?*) KEY=$2 ;;
        --check-reproducible=all | --check-reproducible=one | --check-reproducible=none) CHECK=$2 ;;
        *) die "usage: scripts/release.sh [--version V] [--platform OS_ARCH]... [--dest DIR] [--gpg-key KEY] [--check-reproducible all|one|none]" ;;
    esac
    shift 2
done
[ ${#PLATFORMS[@]} -gt 0 ] || PLATFORMS=("${ALL[@]}")
DEST=${DEST:-$CARGO_TARGET_DIR/release-$VERSION}
[ ! -e "$DEST" ] || die "$DEST is there already: take it away, or name another folder with --dest."
command -v git >/dev/null && git rev-parse --quiet --verify HEAD >/dev/null || die "a release is made from a commit: this is no git repository."
need_packages file=file
rustup component add llvm-tools >/dev/null 2>&1 || die "rustup has no llvm-tools for this toolchain."
READOBJ=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-readobj

REPOSITORY=$PWD
BUILT=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH=$BUILT
# Not `dirty`: what is built is the commit.
GROUNDWORK_COMMIT=$(git rev-parse --short=12 HEAD)
export GROUNDWORK_COMMIT
NAME=terraform-provider-groundwork
FIRST=$CARGO_TARGET_DIR/dist
STARTED=$(date +%s)
TABLE=()

# timed NAME COMMAND...: keeps the time for the table.
timed() {
    local name=$1 from
    shift
    say "$name"
    from=$(date +%s)
    "$@"
    TABLE+=("$(printf '%-58s %5d s' "$name" $(($(date +%s) - from)))")
}

# export_to DIR: the commit's files. Those of another commit get today's time, for cargo takes a file that is older than what was built of it
# for known, and a commit may be older than the last release's build; for the same commit nothing is built again.
export_to() {
    local commit
    commit=$(git -C "$REPOSITORY" rev-parse HEAD)
    [ "$commit" != "$(cat "$1/commit" 2>/dev/null)" ] || return 0
    mkdir -p "$1/source"
    rm -f "$1/commit"
    find "$1/source" -mindepth 1 -delete
    git -C "$REPOSITORY" archive HEAD | tar -x -m -C "$1/source"
    echo "$commit" >"$1/commit"
}

# in_folder DIR COMMAND...: with the sources and the target folder there, and without a trace of where that is in what is built.
in_folder() {
    local dir=$1 maps map
    shift
    maps=("$dir/source=/groundwork" "$dir/target=/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo")
    (
        cd "$dir/source"
        export CARGO_TARGET_DIR=$dir/target CARGO_ENCODED_RUSTFLAGS='' AWS_LC_SYS_PREBUILT_NASM=1
        for map in "${maps[@]}"; do
            CARGO_ENCODED_RUSTFLAGS+=${CARGO_ENCODED_RUSTFLAGS:+$'\x1f'}--remap-path-prefix=$map
            export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$map"
        done
        "$@"
    )
}

# Both agents; every provider of a folder carries them.
agents() { in_folder "$1" build_agent "${AGENTS[@]}"; }

# provider DIR PLATFORM
provider() {
    local agents=$1/target LINK=()
    [ "${2%_*}" != darwin ] || link_for_macos
    GROUNDWORK_AGENT_X86_64=$agents/x86_64-unknown-linux-musl/agent/groundwork-agent \
        GROUNDWORK_AGENT_AARCH64=$agents/aarch64-unknown-linux-musl/agent/groundwork-agent \
        in_folder "$1" zig_cargo "${TARGETS[$2]}" rustc --quiet --release -p $NAME --bin $NAME -- "${LINK[@]}"
}

# program DIR PLATFORM: path of the built provider.
program() {
    local end=
    [ "${2%_*}" != windows ] || end=.exe
    echo "$1/target/${TARGETS[$2]}/release/$NAME$end"
}

agent() { echo "$1/target/$2-unknown-linux-musl/agent/groundwork-agent"; }

# headers PLATFORM FILE: says what it is and what it loads, and fails for a library that is not the system's own.
headers() {
    local loads strange
    file -b "$2" | cut -c1-120
    loads=$("$READOBJ" --needed-libs "$2" | sed -n '/^NeededLibraries/,/^\]/p' | sed '1d;$d;s/^ *//' | sort -u)
    printf '  loads: %s\n' "${loads:-nothing}" | tr '\n' ' '
    printf '\n'
    strange=$(grep -viE "${LIBRARIES[${1%_*}]}" <<<"$loads" || true)
    [ -z "$strange" ] || die "$2 needs what is not on every computer: $strange"
    [ "${1%_*}" != linux ] || ! "$READOBJ" --program-headers "$2" | grep -q PT_INTERP || die "$2 is not static"
    [ "$1" != darwin_arm64 ] || python3 scripts/release.py signed "$2"
}

# archive PLATFORM: the zip, whose bytes depend on the program alone.
archive() {
    local end=
    [ "${1%_*}" != windows ] || end=.exe
    headers "$1" "$(program "$FIRST" "$1")"
    python3 scripts/release.py zip "$DEST/${NAME}_${VERSION}_$1.zip" \
        "${NAME}_v$VERSION$end=$(program "$FIRST" "$1")" LICENSE=LICENSE
    [ "$(stat -c %s "$DEST/${NAME}_${VERSION}_$1.zip")" -le $LARGEST ] || die "${NAME}_${VERSION}_$1.zip has more than $LARGEST bytes"
}

# same FILE FILE
same() { cmp "$1" "$2" || die "Two builds of one commit differ: $1 and $2."; }

# A second build, in another folder and with nothing of the first one.
again() {
    local second platform machine
    second=$(mktemp -d "$CARGO_TARGET_DIR/second.XXXXXX")
    export_to "$second"
    agents "$second"
    for machine in "${AGENTS[@]}"; do same "$(agent "$FIRST" "$machine")" "$(agent "$second" "$machine")"; done
    for platform in "$@"; do
        provider "$second" "$platform"
        same "$(program "$FIRST" "$platform")" "$(program "$second" "$platform")"
        say "$platform: the second build is the same, byte for byte"
    done
    rm -rf "$second"
}

# packages MACHINE ARCH [VERSION DIR]: .deb and .rpm.
packages() {
    local kind
    headers linux_any "$(agent "$FIRST" "$1")"
    go_program github.com/goreleaser/nfpm/v2 "v$NFPM" ./cmd/nfpm
    for kind in deb rpm; do
        VERSION=${3:-$VERSION} ARCH=$2 AGENT=$(agent "$FIRST" "$1") \
            "$PROGRAM" package --config packaging/nfpm.yaml --packager "$kind" --target "${4:-$DEST}/" >/dev/null
    done
}

# Those for this computer, in clean roots, with a later version of the same program to upgrade to.
packages_tried() {
    local machine=$1 arch=$2 later=$VERSION.1 dir
    dir=$(mktemp -d)
    packages "$machine" "$arch" "$later" "$dir"
    packaging/try.sh "$VERSION" "$arch" "$DEST" "$later" "$dir"
    rm -r "$dir"
}
# The last whose modules all come from the Go module proxy.
NFPM=2.43.4

# What describes the rest: for the registries, for people and for scanners.
papers() {
    printf '{\n  "version": 1,\n  "metadata": { "protocol_versions": ["6.0"] }\n}\n' >"$DEST/${NAME}_${VERSION}_manifest.json"
    python3 scripts/release.py notes CHANGELOG.md "$VERSION" >"$DEST/NOTES.md"
    local targets=() platform
    for platform in "${PLATFORMS[@]}"; do targets+=("${TARGETS[$platform]}"); done
    python3 scripts/release.py sbom "$VERSION" "$DEST/${NAME}_${VERSION}_sbom.cdx.json" "${targets[@]}"
    local sums=${NAME}_${VERSION}_SHA256SUMS
    # The registries want the archives and the manifest in it.
    (cd "$DEST" && sha256sum ./*.zip ./*.json ./*.deb ./*.rpm | sed 's,\./,,' >"$sums")
    [ -z "$KEY" ] || gpg --batch --yes --local-user "$KEY" --output "$DEST/$sums.sig" --detach-sign "$DEST/$sums"
    python3 scripts/release.py mirrors "$DEST" "$VERSION" "$DEST"/*.zip
}

mkdir -p "$DEST"
export_to "$FIRST"
cd "$FIRST/source"
# Before anything takes its time.
python3 scripts/release.py notes CHANGELOG.md "$VERSION" >/dev/null
timed "agents for ${AGENTS[*]}" agents "$FIRST"
for platform in "${PLATFORMS[@]}"; do
    timed "provider for $platform" provider "$FIRST" "$platform"
    archive "$platform"
done
timed ".deb and .rpm for amd64" packages x86_64 amd64
timed ".deb and .rpm for arm64" packages aarch64 arm64
if [ "$(id -u)" = 0 ]; then
    need_packages mmdebstrap=mmdebstrap
    timed ".deb and .rpm in clean roots" packages_tried x86_64 amd64
else
    say "the packages are not tried: clean roots are made by root"
fi
case $CHECK in
    all) timed "everything a second time, elsewhere" again "${PLATFORMS[@]}" ;;
    one) timed "agents and ${PLATFORMS[0]} a second time, elsewhere" again "${PLATFORMS[0]}" ;;
esac
timed "sums, mirrors and papers" papers

printf '\n'
printf '%s\n' "${TABLE[@]}"
printf '%-58s %5d s\n\n' total $(($(date +%s) - STARTED))
(cd "$DEST" && find . -maxdepth 1 -type f -printf '%-58P %10s bytes\n' | sort)
say "$VERSION, commit $GROUNDWORK_COMMIT, is in $DEST"
