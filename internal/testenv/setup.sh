#!/bin/sh
# Installs what this repository needs from Debian or Ubuntu, and only what is
# missing: setup.sh GROUP...
#
#   demo      what `sluice demo` runs, and what one looks around in it with
#   kube      what nodes of Kubernetes test beds run beside Kubernetes
#   test      the real peers of the namespace tests, and all of demo and kube
#   generate  the compiler of the eBPF program
#   libpcap   what internal/pcapfilter/libpcap.wasm is built with
#   lint      what checks the shell scripts
#   bench     what the baselines are built from and measured with, and all of test
#
# No service that was not running before runs afterwards, or will after a boot.
set -eu

# Each line: what must exist (a command, or a file with its full path; | between
# alternatives), then the package that brings it.
needs() {
	case "$1" in
	demo) cat <<-'END'
		ip iproute2
		ethtool ethtool
		tcpdump tcpdump
		ping iputils-ping
		ovs-vsctl openvswitch-switch
		ovs-vswitchd|/usr/lib/openvswitch-switch/ovs-vswitchd openvswitch-switch
		ovsdb-server openvswitch-switch
		/usr/lib/frr/bgpd frr
		bird bird2
	END
	;;
	kube) cat <<-'END'
		containerd containerd
		ctr containerd
		runc runc
		nft nftables
		/usr/lib/cni/bridge|/opt/cni/bin/bridge|/usr/libexec/cni/bridge containernetworking-plugins
	END
	;;
	test) needs demo; needs kube; cat <<-'END'
		wireguard-go wireguard-go
		wg wireguard-tools
		iperf3 iperf3
		gcc gcc
		/usr/include/stdio.h libc6-dev
		exabgp exabgp
	END
	;;
	generate) cat <<-'END'
		clang-14 clang-14
		llvm-strip-14 llvm-14
		/usr/include/bpf/bpf_helpers.h libbpf-dev
		/usr/include/linux/bpf.h linux-libc-dev
	END
	;;
	libpcap) cat <<-'END'
		clang-14 clang-14
		wasm-ld-14 lld-14
		/usr/lib/wasm32-wasi/crt1-reactor.o wasi-libc
		/usr/lib/llvm-14/lib/clang/14.0.6/lib/wasi/libclang_rt.builtins-wasm32.a libclang-rt-14-dev-wasm32
		flex flex
		bison bison
		dpkg-source dpkg-dev
	END
	;;
	lint) echo "shellcheck shellcheck" ;;
	bench) needs test; cat <<-'END'
		/usr/include/xdp/xsk.h libxdp-dev
		/usr/include/bpf/bpf.h libbpf-dev
		taskset util-linux
	END
	;;
	*) die "unknown group $1 (demo, kube, test, generate, libpcap, lint, bench)" ;;
	esac
}

die() {
	echo "setup: $*" >&2
	exit 1
}

exists() {
	found=1
	old_ifs=$IFS
	IFS='|'
	for one in $1; do
		case "$one" in
		/*) [ -e "$one" ] && found=0 ;;
		*) command -v "$one" >/dev/null 2>&1 && found=0 ;;
		esac
	done
	IFS=$old_ifs
	return $found
}

[ $# -gt 0 ] || die "name a group: demo, kube, test, generate, libpcap, lint, bench"
# A plain user's PATH often lacks the folders where these commands are.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

list=
for group; do
	lines=$(needs "$group")
	list="$list
$lines"
done
missing=$(echo "$list" | sort -u | while read -r what package; do
	[ -n "$what" ] || continue
	exists "$what" || echo "$package"
done | sort -u)
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086 # package names, to be split into words
set -- $missing

if ! command -v apt-get >/dev/null 2>&1; then
	die "no apt-get on this system; install by hand (Debian's package names): $*"
fi
root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || die "run as root, or install sudo, to install: $*"
	root="sudo"
fi

# From here on as root: the packages' scripts ask policy-rc.d before they start
# a service (Debian policy 9.3.3). Ours says no, and goes away afterwards; what
# stood in its place comes back.
echo "setup: installing $*"
exec $root sh -eu -s -- "$@" <<'END'
policy=/usr/sbin/policy-rc.d
saved=$policy.before-sluice-setup
mark='Of internal/testenv/setup.sh of Sluice'
restore() {
	if grep -qs "$mark" "$policy"; then
		rm -f "$policy"
	fi
	if [ -e "$saved" ] || [ -L "$saved" ]; then
		mv -f "$saved" "$policy"
	fi
}
units() {
	[ -d /run/systemd/system ] || return 0
	systemctl list-unit-files --state=enabled --type=service --no-legend --no-pager 2>/dev/null |
		awk '{print $1}' | sort
}
before=$(units)
restore # after a run that was killed
if [ -e "$policy" ] || [ -L "$policy" ]; then
	mv "$policy" "$saved"
fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\n# %s, while it installs packages.\nexit 101\n' "$mark" >"$policy"
chmod 0755 "$policy"

# This script comes by standard input, which they must not read.
export DEBIAN_FRONTEND=noninteractive
apt-get -q update </dev/null
apt-get -q install -y --no-install-recommends -o Dpkg::Options::=--force-confold "$@" </dev/null

# Newly enabled services would start at the next boot.
for unit in $(units); do
	case "
$before
" in
	*"
$unit
"*) ;;
	*) systemctl -q disable "$unit" ;;
	esac
done
END
