#!/bin/sh
# After an installation or upgrade of the package. systemd starts /usr/local/bin/groundwork-agent, which the provider may replace by a
# newer one; until then it is the package's. Nothing is enabled: a provider's seed brings configuration and enrolment, and enables it.
set -e
bin=/usr/local/bin/groundwork-agent
mkdir -p /usr/local/bin
[ -e "$bin" ] || ln -sf /usr/bin/groundwork-agent "$bin"
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # The new program takes over where the old one runs; a run in progress ends first.
  if [ "$(readlink "$bin")" = /usr/bin/groundwork-agent ]; then systemctl try-restart groundwork-agent.service; fi
fi
