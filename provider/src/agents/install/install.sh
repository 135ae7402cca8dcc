#!/bin/sh
# Installs the agent that came with this seed. Runs on every boot while the seed is attached, and does its work once per seed.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
state=/var/lib/groundwork
[ "$(cat "$state/seed-id" 2>/dev/null || true)" != "@ID@" ] || exit 0

# A seed of another machine, or one that was used up, changes nothing: a copied disk or a snapshot may bring one back.
uuid=$(cat /sys/class/dmi/id/product_uuid 2>/dev/null | tr A-F a-f)
[ -z "$uuid" ] || [ "$uuid" = @UUID@ ] || {
  echo "groundwork: this seed was made for the machine @UUID@, and this is $uuid: nothing was changed" >&2
  exit 1
}
for note in "$state/identity/enrolled.json" "$state/enrol.json"; do
  grep -q '"machine_uuid":"@UUID@"' "$note" 2>/dev/null || continue
  known=$(sed -n 's/.*"generation":\([0-9]*\).*/\1/p' "$note")
  [ "${known:-0}" -lt @GENERATION@ ] || {
    echo "groundwork: a seed of generation $known was here, and this is one of @GENERATION@: nothing was changed" >&2
    exit 0
  }
done

machine=$(uname -m)
case "$machine" in
@SUMS@
*) echo "groundwork: this seed carries no agent for $machine" >&2; exit 1 ;;
esac
echo "$sum  $here/agent-$machine" | sha256sum -c - >/dev/null

put() {
  install -m "$1" "$here/$2" "$3.new"
  mv -f "$3.new" "$3"
  if command -v restorecon >/dev/null; then restorecon -F "$3"; fi
}
install -d -m 0755 /etc/groundwork /usr/local/bin
install -d -m 0700 "$state"
put 0755 "agent-$machine" /usr/local/bin/groundwork-agent
put 0644 ca.pem /etc/groundwork/ca.pem
put 0644 agent.toml /etc/groundwork/agent.toml
put 0644 groundwork-agent.service /etc/systemd/system/groundwork-agent.service
put 0600 enrol.json "$state/enrol.json"
systemctl daemon-reload
systemctl enable --quiet groundwork-agent.service
# cloud-init waits for this script, and the agent's unit may wait for cloud-init: never wait for the start here.
systemctl restart --no-block groundwork-agent.service
echo "@ID@" >"$state/seed-id.new"
mv -f "$state/seed-id.new" "$state/seed-id"
