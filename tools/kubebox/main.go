// Command kubebox is Kubernetes in one file, for Sluice's test beds: unchanged programs, of which the first argument
// names one. One binary builds in half the time of several, because they share most packages, and is one file to cache.
//
//	kubebox kube-apiserver --etcd-servers ...
//
// It is a module of its own, as k8s.io/kubernetes wants thirty `replace` lines that nobody else should see. Nothing of
// it is shipped. internal/kubetest starts it.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// programs by name. Each gets its arguments in os.Args, where all of them look, and returns the exit status.
var programs = map[string]func() int{
	"etcd":           runEtcd,
	"kube-apiserver": component(apiserver.NewAPIServerCommand),
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := programs[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(run())
		}
	}
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: kubebox PROGRAM [arguments]; programs: %s\n", strings.Join(names, ", "))
	os.Exit(2)
}

func component(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// walSegment in bytes: etcd makes two of these files ahead of their use, 64 MB each if it is not told otherwise. A test
// bed has many small stores.
const walSegment = 4 << 20

func runEtcd() int {
	wal.SegmentSizeBytes = walSegment
	etcdmain.Main(os.Args) // exits by itself when it has to
	return 0
}
