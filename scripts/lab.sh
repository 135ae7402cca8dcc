#!/usr/bin/env bash
# The lab: a Proxmox VE API with real machines behind it, on this machine. See tests/lab/README.md.
#
#   scripts/lab.sh start --backend nspawn|qemu|none --dir DIR     then: source DIR/lab.env
#   scripts/lab.sh exec --dir DIR VM -- PROGRAM ARGUMENT...
#   scripts/lab.sh stop --dir DIR
#   scripts/lab.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."

export GROUNDWORK_CACHE=${GROUNDWORK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/groundwork}
LAB=$PWD/tests/lab
VENV=$GROUNDWORK_CACHE/lab/venv

die() { printf 'lab: %s\n' "$*" >&2; exit 1; }

# install PACKAGE...: as root, without a word when it works. Nothing that is here goes for it.
install_packages() {
    [ "$(id -u)" = 0 ] || die "missing: $*. Run once as root: scripts/lab.sh prepare"
    printf 'lab: installing %s\n' "$*" >&2
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-remove --no-install-recommends "$@" >/dev/null && return
    printf 'lab: apt did not install %s. It removes nothing for it: see what stands in the way with apt-get install --simulate %s\n' \
        "$*" "$*" >&2
    return 1
}

# Programs of the machine backends; each is looked for by what it gives.
install_programs() {
    local missing=() pair
    for pair in qemu-img=qemu-utils systemd-nspawn=systemd-container mmdebstrap=mmdebstrap ip=iproute2 \
        bsdtar=libarchive-tools mke2fs=e2fsprogs sfdisk=fdisk mkswap=util-linux nsenter=util-linux gpg=gnupg; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
    # The package repository is made from the packages that apt knows.
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt-get update -q >/dev/null
}

# QEMU's parts must be of one version; a newer qemu-utils from elsewhere is taken back to it.
install_qemu() {
    local program version
    program=qemu-system-x86
    [ "$(uname -m)" = aarch64 ] && program=qemu-system-arm
    command -v "qemu-system-$(uname -m)" >/dev/null && return
    install_packages "$program" 2>/dev/null && return
    version=$(apt-cache policy "$program" | sed -n 's/^ *Candidate: //p')
    install_packages --allow-downgrades "$program=$version" "qemu-utils=$version" "qemu-system-common=$version" \
        "qemu-system-data=$version"
}

# The Python packages of tests/lab/requirements.txt, in an environment of their own.
make_venv() {
    local stamp=$VENV/requirements.txt
    cmp -s "$LAB/requirements.txt" "$stamp" 2>/dev/null && return
    command -v python3 >/dev/null || install_packages python3
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or later is needed"
    python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
    mkdir -p "$VENV"
    exec 9>"$VENV.lock"
    flock 9
    cmp -s "$LAB/requirements.txt" "$stamp" 2>/dev/null && return
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$LAB/requirements.txt" >&2
    cp "$LAB/requirements.txt" "$stamp"
    flock -u 9
}

lab() { PATH=$PATH:/usr/sbin:/sbin PYTHONPATH=$LAB "$VENV/bin/python" -m lab "$@"; }

make_venv
case ${1:-} in
    prepare) install_programs; install_qemu; lab "$@" ;;
    python) echo "$VENV/bin/python" ;;
    selftest)
        export PATH=$PATH:/usr/sbin:/sbin PYTHONPATH=$LAB
        "$VENV/bin/python" -m unittest discover -s "$LAB/test" -t "$LAB" "${@:2}"
        ;;
    start)
        case " $* " in
            *" none "*) ;;
            *" qemu "*) install_programs; install_qemu ;;
            *) install_programs ;;
        esac
        lab "$@"
        ;;
    *) lab "$@" ;;
esac
