# What an installation has to know of the machine, as lines of KEY=VALUE. Changes nothing.
say() { printf '%s=%s\n' "$1" "$2"; }
first() { [ ! -r "$2" ] || say "$1" "$(head -n 1 "$2")"; }
sum() { [ ! -f "$2" ] || say "$1" "$(sha256sum <"$2" | cut -d ' ' -f 1)"; }

say looked yes
say system "$(uname -s)"
say machine "$(uname -m)"
first init /proc/1/comm
[ ! -d /run/systemd/system ] || say systemd yes
for program in base64 cut df flock head install mv sed grep sha256sum systemctl tail tr; do
  command -v "$program" >/dev/null 2>&1 || say lacks "$program"
done
command -v gzip >/dev/null 2>&1 && say gzip yes
first uuid /sys/class/dmi/id/product_uuid
first machine_id /etc/machine-id

# The mount that holds a path, with its options; the last one over a place counts.
for folder in /usr/local/bin /etc/systemd/system /etc/groundwork /var/lib/groundwork; do
  there=$folder
  while [ ! -d "$there" ]; do
    there=${there%/*}
    [ -n "$there" ] || there=/
  done
  set -- $(df -Pk "$there" 2>/dev/null | tail -n 1)
  free=${4:-} point=${6:-} options=
  while read -r _ mounted _ found _; do
    [ "$mounted" != "$point" ] || options=$found
  done </proc/mounts
  writable=yes
  [ -w "$there" ] || writable=no
  say folder "$folder $writable ${free:-0} ${options:-unknown}"
done

sum program_sum /usr/local/bin/groundwork-agent
sum config_sum /etc/groundwork/agent.toml
[ ! -f /etc/groundwork/ca.pem ] || say ca "$(base64 </etc/groundwork/ca.pem | tr -d '\n')"
say active "$(systemctl is-active groundwork-agent.service 2>/dev/null)"
for note in /var/lib/groundwork/identity/enrolled.json /var/lib/groundwork/enrol.json; do
  [ ! -f "$note" ] || say generation "$(sed -n 's/.*"generation":\([0-9]*\).*/\1/p' "$note")"
done
note=/var/lib/groundwork/identity/enrolled.json
[ ! -f "$note" ] || say enrolled "$(sed -n 's/.*"machine_uuid":"\([^"]*\)".*/\1/p' "$note")"
for staged in /var/lib/groundwork/install/*; do
  [ ! -f "$staged" ] || say staged "${staged##*/} $(sha256sum <"$staged" | cut -d ' ' -f 1)"
done
exit 0
