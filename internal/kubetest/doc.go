// Package kubetest runs real Kubernetes clusters on this machine, for tests and
// programs: etcd and an API server, which is what controllers need; with the
// controller manager, the scheduler and nodes that kwok simulates, for width; or
// with real nodes, on which pods run. They are processes of this machine, of the
// binary that tools/kubebox builds; there is no mock, and no container registry.
//
//	c := kubetest.Start(t, kubetest.Options{})
//	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
//
// In a test a cluster comes from Start and ends with the test; for a whole
// package (TestMain) or a program it comes from Open and ends with Close. An API
// server is up in about three seconds. What a killed process left behind is
// removed when the next cluster starts.
//
// Only with Controllers do the things happen that the controller manager does: a
// deleted namespace goes away, owned objects are collected, a namespace gets its
// default ServiceAccount, approved signing requests are signed.
//
// A node (AddNode) is containerd, runc, a kubelet, kube-proxy and the bridge CNI
// plugin, in a network namespace of the caller's, which also routes between nodes.
// Whatever else a node would take of the machine is its own: folders in memory,
// mounts, processes, settings of the kernel; all that goes when its first process
// does (tools/kubebox/node.go). Its cgroups, which are the machine's, Close or the
// next Sweep removes. Pods have no DNS.
//
// The package knows no Kubernetes client: it hands out kubeconfig files.
//
// A Cluster belongs to one goroutine, except that what is read (Kubeconfig, URL,
// CA) and Kubectl may be used by any.
package kubetest
