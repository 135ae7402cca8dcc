#!/bin/sh
# Before the package is removed; dpkg says `remove`, rpm 0. An agent that a provider has installed beside it stays.
set -e
case "${1:-}" in
  remove | 0) ;;
  *) exit 0 ;;
esac
bin=/usr/local/bin/groundwork-agent
[ "$(readlink "$bin" 2>/dev/null)" = /usr/bin/groundwork-agent ] || exit 0
if [ -d /run/systemd/system ]; then
  systemctl disable --now groundwork-agent.service
else
  rm -f /etc/systemd/system/multi-user.target.wants/groundwork-agent.service
fi
rm -f "$bin"
