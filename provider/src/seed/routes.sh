# A default route over a gateway that is in no network of its card, where the image's own network configuration could not say so.
default_route() {
  case $2 in *:*) family=-6 ;; *) family=-4 ;; esac
  for card in /sys/class/net/*; do
    [ "$(cat "$card/address" 2>/dev/null)" = "$1" ] || continue
    [ -z "$(ip "$family" route show default dev "${card##*/}")" ] || continue
    ip "$family" route replace default via "$2" dev "${card##*/}" onlink ${3:+metric "$3"}
  done
}
