// Package kubetest runs real Kubernetes clusters on this machine, for tests and
// programs: etcd and the API server, which is what controllers need. They are
// processes of this machine, of the binary that tools/kubebox builds; there is no
// mock.
//
//	c := kubetest.Start(t, kubetest.Options{})
//	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
//
// In a test a cluster comes from Start and ends with the test; for a whole
// package (TestMain) or a program it comes from Open and ends with Close. An API
// server is up in about three seconds. What a killed process left behind is
// removed when the next cluster starts.
//
// There is no controller manager: a deleted namespace does not go away, owned
// objects are not collected, a namespace gets no default ServiceAccount, and
// nobody signs approved signing requests.
//
// The package knows no Kubernetes client: it hands out kubeconfig files.
//
// A Cluster belongs to one goroutine, except that what is read (Kubeconfig, URL,
// CA) may be used by any.
package kubetest
