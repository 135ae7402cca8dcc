#!/usr/bin/env bash
# Builds the provider, with the agent inside, and installs it for this user. See docs/guides/install.md.
#
#   scripts/install.sh                  where `terraform init` looks by itself, and as a command
#   scripts/install.sh --dest DIR       another mirror folder, such as one to copy to other machines
#   scripts/install.sh --bin DIR        another folder for the command
#   scripts/install.sh --agents all     with agents for x86_64 and aarch64 machines inside; this computer's alone without
set -euo pipefail

AGENTS=()
MIRROR=$HOME/.terraform.d/plugins
BIN=$HOME/.local/bin
[ "$(id -u)" = 0 ] && BIN=/usr/local/bin
while [ $# -gt 0 ]; do
    case "$1=${2:-}" in
        --dest=?*) MIRROR=$(realpath -m "$2") ;;
        --bin=?*) BIN=$(realpath -m "$2") ;;
        --agents=all) AGENTS=(x86_64 aarch64) ;;
        *) echo "usage: scripts/install.sh [--dest DIR] [--bin DIR] [--agents all]" >&2; exit 1 ;;
    esac
    shift 2
done

cd "$(dirname "$0")/.."
source scripts/setup.sh
say "building the agent and the provider (the first time takes some minutes)"
build_agent "${AGENTS[@]}"
build_provider

mirror_provider "$MIRROR"
install -D -m 0755 "$PROVIDER_BINARY" "$BIN/terraform-provider-groundwork"

say "installed $("$PROVIDER_BINARY" version)"
cat <<END
  for \`terraform init\`    $MIRROR
  for you and kubectl     $BIN/terraform-provider-groundwork
END
case :$PATH: in
    *:"$BIN":*) ;;
    *) echo "  $BIN is not on PATH: add it, for kubectl starts the command by its name." ;;
esac
cat <<END

Next: terraform-provider-groundwork pki init ./pki makes the agents' CA, once.
docs/guides/first-cluster.md goes on from there.
END
