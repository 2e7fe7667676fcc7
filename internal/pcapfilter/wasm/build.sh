#!/usr/bin/env bash
# Builds ../libpcap.wasm from libpcap's source: build.sh [libpcap_1.10.3.orig.tar.gz]
# Without the file it asks apt-get for Debian 12's source package, for which sources.list needs a deb-src line.
# The same compiler makes the same bytes: `make libpcap` changes nothing if nothing has changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=1.10.3
sum=2a8885c403516cf7b0933ed4b14d6caa30e02052489ebd414dc75ac52e7559e6

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tarball=${1:-}
if [ -z "$tarball" ]; then
	(cd "$work" && apt-get -q source --download-only "libpcap=$version-1") ||
		{ echo "no source package: enable deb-src, or name libpcap_$version.orig.tar.gz" >&2; exit 1; }
	tarball=$work/libpcap_$version.orig.tar.gz
fi
echo "$sum  $tarball" | sha256sum --check --quiet
tar -xf "$tarball" -C "$work"
source=$work/libpcap-$version

cd "$work"
sed 's/@REENTRANT_PARSER@/%define api.pure/' "$source/grammar.y.in" >grammar.y
bison -p pcap_ -d -o grammar.c grammar.y
flex -P pcap_ --header-file=scanner.h --nounput -o scanner.c "$source/scanner.l"
# libpcap's warnings are its authors' business; -D_WASI_EMULATED_SIGNAL lets it include signal.h, of which it needs nothing.
clang-14 --target=wasm32-wasi -mexec-model=reactor -fuse-ld=lld -B/usr/lib/llvm-14/bin \
	-Os -ffunction-sections -Wl,--gc-sections,--strip-all -w \
	-DHAVE_CONFIG_H -D_WASI_EMULATED_SIGNAL -I"$here/include" -I. -I"$source" \
	-o "$here/../libpcap.wasm" \
	"$here/compile.c" "$here/names.c" grammar.c scanner.c \
	"$source"/{gencode,optimize,nametoaddr,etherent,fmtutils,bpf_filter}.c
