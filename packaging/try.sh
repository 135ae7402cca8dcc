#!/usr/bin/env bash
# Both packages of the agent in a clean root of this computer's distribution: installed, upgraded, removed, and beside a provider's agent.
#
#   packaging/try.sh VERSION ARCH DIR LATER DIR    the packages of two versions, each in its folder; root
#
# The root has systemd's files and no systemd that runs: what is started is the seed's to say, and tried on machines of the lab.
set -euo pipefail
[ $# = 5 ] || { echo "usage: packaging/try.sh VERSION ARCH DIR LATER DIR" >&2; exit 2; }
VERSION=$1 ARCH=$2 FIRST=$3 LATER=$4 SECOND=$5

PROGRAM=/usr/bin/groundwork-agent
LINK=/usr/local/bin/groundwork-agent
UNIT=/usr/lib/systemd/system/groundwork-agent.service
RPM_ARCH=$(case $ARCH in amd64) echo x86_64 ;; arm64) echo aarch64 ;; esac)
ROOT=$(mktemp -d)
trap 'rm -rf "$ROOT"' EXIT

inside() { chroot "$ROOT" "$@"; }

# holds WHAT COMMAND...: a command of the root's that must succeed.
holds() {
    inside "${@:2}" >/dev/null || { echo "packaging/try.sh: $KIND: not so: $1" >&2; exit 1; }
}

# One word for each thing that a packager does, in both packagers' words. rpm knows nothing of systemd's package here.
deb_install() { inside dpkg --install "/tmp/groundwork-agent_$1_$ARCH.deb"; }
rpm_install() { inside rpm --upgrade --nodeps --quiet "/tmp/groundwork-agent-$1-1.$RPM_ARCH.rpm"; }
deb_remove() { inside dpkg --remove groundwork-agent; }
rpm_remove() { inside rpm --erase groundwork-agent; }

installed() {
    holds "the program says its version" sh -c "$LINK version | grep -qF '(commit '"
    holds "the link leads to it" test "$(inside readlink "$LINK")" = "$PROGRAM"
    holds "the unit is there" test -f "$UNIT"
    holds "nothing is enabled" sh -c "! test -e /etc/systemd/system/multi-user.target.wants/groundwork-agent.service"
}

removed() {
    holds "no program is left" sh -c "! test -e $PROGRAM"
    holds "no link is left" sh -c "! test -L $LINK && ! test -e $LINK"
    holds "no unit is left" sh -c "! test -e $UNIT"
}

try() {
    KIND=$1
    "${KIND}_install" "$VERSION"
    installed
    "${KIND}_install" "$LATER"
    installed
    "${KIND}_remove"
    removed

    # What a provider's seed makes of it: its own agent in the link's place, enabled, with an identity.
    "${KIND}_install" "$VERSION"
    inside sh -c "mkdir -p /usr/local/libexec/groundwork /var/lib/groundwork /etc/systemd/system/multi-user.target.wants
        cp $PROGRAM /usr/local/libexec/groundwork/agent && ln -sfn /usr/local/libexec/groundwork/agent $LINK
        ln -sf $UNIT /etc/systemd/system/multi-user.target.wants/ && touch /var/lib/groundwork/key"
    "${KIND}_install" "$LATER"
    holds "an upgrade leaves the provider's agent" test "$(inside readlink "$LINK")" = /usr/local/libexec/groundwork/agent
    "${KIND}_remove"
    holds "a removal leaves the provider's agent" "$LINK" version
    holds "and that it is enabled" test -L /etc/systemd/system/multi-user.target.wants/groundwork-agent.service
    holds "and its identity" test -e /var/lib/groundwork/key
    inside sh -c "rm -r /usr/local/libexec/groundwork /var/lib/groundwork $LINK /etc/systemd/system/multi-user.target.wants/groundwork-agent.service"
    echo "$KIND: installed, upgraded, removed, and beside a provider's agent"
}

mmdebstrap --quiet --variant=apt --include=systemd,rpm "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$ROOT"
cp "$FIRST/groundwork-agent_${VERSION}_$ARCH.deb" "$FIRST/groundwork-agent-$VERSION-1.$RPM_ARCH.rpm" \
    "$SECOND/groundwork-agent_${LATER}_$ARCH.deb" "$SECOND/groundwork-agent-$LATER-1.$RPM_ARCH.rpm" "$ROOT/tmp/"
try deb
try rpm
