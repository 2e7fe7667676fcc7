// Command kubebox is Kubernetes in one file, for Sluice's test beds: etcd, the parts of a control plane, what a node
// runs, kwok (which simulates nodes) and kubectl, all unchanged. One binary builds in half the time of nine, because
// they share most packages, and is one file to cache.
//
//	kubebox kube-apiserver --etcd-servers ...
//	kubebox node < commands        # see node.go
//
// It is a module of its own, as k8s.io/kubernetes wants thirty `replace` lines that nobody else should see. Nothing of
// it is shipped. internal/kubetest starts it.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
)

// programs by name. Each gets its arguments in os.Args, where all of them look, and returns the exit status.
var programs = map[string]func() int{
	"etcd":                    runEtcd,
	"kube-apiserver":          component(apiserver.NewAPIServerCommand),
	"kube-controller-manager": component(controllers.NewControllerManagerCommand),
	"kube-scheduler":          component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              component(proxy.NewProxyCommand),
	"kubelet":                 component(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
	"kwok":                    runKwok,
	"node":                    runNode,
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

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// runKwok sets kwok up as its own main does. Its global flags are read before its command exists, by parsers that must
// not mind the command's flags.
func runKwok() int {
	global := pflag.NewFlagSet("global", pflag.ContinueOnError)
	global.ParseErrorsAllowlist.UnknownFlags = true
	global.Usage = func() {}
	ctx, _ := kwoklog.InitFlags(context.Background(), global)
	ctx, err := kwokconfig.InitFlags(ctx, global)
	if err == nil {
		command := kwok.NewCommand(ctx)
		// With a version cobra adds a flag --version, and component-base has registered one of another type.
		command.Version = ""
		command.PersistentFlags().AddFlagSet(global)
		err = command.ExecuteContext(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		return 1
	}
	return 0
}
