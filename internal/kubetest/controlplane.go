package kubetest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// serviceRange is where Services get their addresses from, the same in every
// cluster.
var serviceRange = netip.MustParsePrefix("10.96.0.0/16")

// ports are those that the control plane listens on.
type ports struct{ etcd, etcdPeer, api uint16 }

// wellKnown are the ports in a namespace of one's own.
var wellKnown = ports{etcd: 2379, etcdPeer: 2380, api: 6443}

// freePorts finds ports that nobody listens on. They stay free only by luck, so
// whoever uses them has to be ready to try again.
func freePorts(addr netip.Addr) (p ports, err error) {
	for _, port := range []*uint16{&p.etcd, &p.etcdPeer, &p.api} {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			return p, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() // only when all are found, or the same would be found again
		*port = uint16(listener.Addr().(*net.TCPAddr).Port)
	}
	return p, nil
}

func (c *Cluster) etcdURL(port uint16) string {
	return "http://" + netip.AddrPortFrom(loopback, port).String()
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	client, peer := c.etcdURL(c.ports.etcd), c.etcdURL(c.ports.etcdPeer)
	p, err := c.start("etcd",
		"--name", c.o.Name, "--data-dir", c.path("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", c.o.Name+"="+peer,
		// The only member elects itself, the sooner the better (milliseconds).
		"--heartbeat-interval", "20", "--election-timeout", "200",
		// What a crash of the machine loses, nobody misses.
		"--unsafe-no-fsync",
		"--log-level", "warn",
	)
	if err != nil {
		return err
	}
	// The API server waits for it too, and longer.
	return p.wait(ctx, func(ctx context.Context) error { return c.get(ctx, client+"/health", nil) })
}

// StartAPIServer starts the API server after StopAPIServer, on the same port and
// store, and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	args := []string{
		"--etcd-servers", c.etcdURL(c.ports.etcd),
		"--bind-address", c.address.String(), "--advertise-address", c.address.String(),
		"--secure-port", strconv.Itoa(int(c.ports.api)),
		"--cert-dir", c.path("apiserver"),
		"--tls-cert-file", c.path("server.crt"), "--tls-private-key-file", c.path("server.key"),
		"--client-ca-file", c.path("ca.crt"),
		"--kubelet-client-certificate", c.path("kubelet-client.crt"), "--kubelet-client-key", c.path("kubelet-client.key"),
		"--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", c.path("tokens.pub"), "--service-account-signing-key-file", c.path("tokens.key"),
		"--service-cluster-ip-range", serviceRange.String(),
		"--authorization-mode", "Node,RBAC",
		"--allow-privileged=true",
	}
	if c.address.IsLoopback() {
		// Pods could not reach it there, and it refuses to announce such an address.
		args = append(args, "--endpoint-reconciler-type", "none")
	}
	p, err := c.start("kube-apiserver", append(args, c.o.APIServerArgs...)...)
	if err != nil {
		return err
	}
	return p.wait(ctx, func(ctx context.Context) error { return c.get(ctx, c.InsideURL()+"/readyz", nil) })
}

// StopAPIServer kills the API server, as a crash would.
func (c *Cluster) StopAPIServer() error {
	if !c.end("kube-apiserver") {
		return fmt.Errorf("cluster %s: its API server does not run", c.o.Name)
	}
	return nil
}

// startControllers starts the controller manager and the scheduler.
func (c *Cluster) startControllers(ctx context.Context) error {
	file, err := c.InsideKubeconfigFor("system:kube-controller-manager")
	if err != nil {
		return err
	}
	_, err = c.start("kube-controller-manager",
		"--kubeconfig", file, "--authentication-kubeconfig", file, "--authorization-kubeconfig", file,
		"--service-account-private-key-file", c.path("tokens.key"), "--root-ca-file", c.path("ca.crt"),
		"--cluster-signing-cert-file", c.path("ca.crt"), "--cluster-signing-key-file", c.path("ca.key"),
		// Each controller as itself, with the rights of its own role; some have too few without.
		"--use-service-account-credentials=true",
		// The default of 20 requests a second keeps them waiting for seconds when all of them start.
		"--kube-api-qps", "1000", "--kube-api-burst", "2000",
		"--leader-elect=false", "--secure-port", "0",
	)
	if err != nil {
		return err
	}
	if file, err = c.InsideKubeconfigFor("system:kube-scheduler"); err != nil {
		return err
	}
	_, err = c.start("kube-scheduler",
		"--kubeconfig", file, "--authentication-kubeconfig", file, "--authorization-kubeconfig", file,
		"--leader-elect=false", "--secure-port", "0",
	)
	return err
}
