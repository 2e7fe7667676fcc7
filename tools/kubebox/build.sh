#!/bin/sh
# Builds kubebox once into the user's cache folder, under a key of its sources,
# and prints where it is; does nothing else when it is there already.
#
#   build.sh        build if need be (5 minutes on 2 cores, 100 MB to download)
#   build.sh key    print the key
set -eu
cd "$(dirname "$0")"

key=$(cat go.mod go.sum ./*.go build.sh | sha256sum | cut -c1-12)
if [ "${1-}" = key ]; then
	echo "$key"
	exit
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
dir=$cache/kubebox-$key
if [ -x "$dir/kubebox" ]; then
	echo "$dir/kubebox"
	exit
fi
mkdir -p "$dir"

# One builder at a time; the second finds it built.
exec 9>"$cache/kubebox.lock"
flock 9
if [ ! -x "$dir/kubebox" ]; then
	echo "kubebox: building Kubernetes into $dir (minutes, once)" >&2
	go=${GO:-go}
	# 4 GB of objects that nothing else needs: in a cache of their own, kept only until the build is done.
	GOCACHE=$cache/kubebox-build
	GOFLAGS=-mod=readonly
	CGO_ENABLED=0
	export GOCACHE GOFLAGS CGO_ENABLED
	version=$($go list -m -f '{{.Version}}' k8s.io/kubernetes) # v1.MINOR.PATCH
	minor=${version#v1.}
	package=k8s.io/component-base/version
	$go build -trimpath -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean" -o "$dir/kubebox.new" .
	mv "$dir/kubebox.new" "$dir/kubebox"
	rm -rf "$GOCACHE"
fi
echo "$dir/kubebox"
