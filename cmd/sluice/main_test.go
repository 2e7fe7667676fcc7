package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files and the files in scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main})
}

// TestCommandLine runs the scripts beside a gateway that is a fixture, served
// over a real socket: $SOCKET.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"listening": listening, "written": written},
		Setup: func(e *testscript.Env) error {
			socket := filepath.Join(e.WorkDir, "api.sock")
			e.Setenv("SOCKET", socket)
			l, err := api.Listen(socket)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- api.Serve(ctx, l, fixture{time.Now()}, nil) }()
			e.Defer(func() {
				cancel()
				if err := <-served; err != nil {
					t.Errorf("serve: %v", err)
				}
			})
			return nil
		},
	})
}

// listening waits until a program that the script has started listens: listening ADDRESS.
func listening(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listening address")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", args[0])
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nobody listens at %s: %v", args[0], err)
		}
	}
}

// written waits until a program that the script has started has written a text to a file: written FILE TEXT.
func written(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: written file text")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if bytes.Contains(b, []byte(args[1])) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not say %q but %q (%v)", args[0], args[1], b, err)
		}
	}
}

func TestTablesLookAsTheyShould(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	f, ctx := fixture{now}, t.Context()
	status, err := f.Status(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := f.Peers(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	vpcs, err := f.VPCs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := f.Routes(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := f.Hosts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	bgp, err := f.BGP(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := f.Cluster(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	acls, err := f.ACL(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	counters, err := f.Counters(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	later, err := fixture{now.Add(2 * time.Second)}.Counters(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	later.Counters[0].Value += 500
	later.Counters[1].Value-- // started anew
	for name, write := range map[string]func(io.Writer) error{
		"status":   func(w io.Writer) error { return writeStatus(w, status, now) },
		"peers":    func(w io.Writer) error { return peerTable(peers.GetPeers(), now).write(w) },
		"peer":     func(w io.Writer) error { return writePeers(w, peers.GetPeers(), now) },
		"vpcs":     func(w io.Writer) error { return vpcTable(vpcs.GetVpcs()).write(w) },
		"routes":   func(w io.Writer) error { return routeTable(routes.GetRoutes()).write(w) },
		"hosts":    func(w io.Writer) error { return hostTable(hosts.GetHosts()).write(w) },
		"bgp":      func(w io.Writer) error { return writeBGP(w, bgp, false) },
		"bgproute": func(w io.Writer) error { return writeBGP(w, bgp, true) },
		"cluster":  func(w io.Writer) error { return writeCluster(w, cluster) },
		"acl":      func(w io.Writer) error { return aclTable(acls.GetAcls()).write(w) },
		"counters": func(w io.Writer) error { return counterTable(counters, false).write(w) },
		"rates":    func(w io.Writer) error { return rateTable(counters, later, false).write(w) },
		"json": func(w io.Writer) error {
			c := client{json: true}
			return c.print(w, &sluicev1.StatusResponse{Peers: peers.GetPeers(), Config: f.revision()}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata/golden", name+".txt")
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestBytesHaveThreeDigitsAndAUnit(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10239: "10.0 KiB", 102399: "100 KiB",
		1<<20 - 1: "1.00 MiB", 1536 << 10: "1.50 MiB", 1 << 40: "1.00 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}
