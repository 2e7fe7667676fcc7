package gateway_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// large adds VPCs, peers and prefixes to a configuration: every peer is in an equal share of the VPCs.
func large(t testing.TB, text string, vpcs, peers, prefixes int) string {
	t.Helper()
	before, after, _ := strings.Cut(text, "peers:\n")
	var v, p strings.Builder
	for i := range vpcs {
		fmt.Fprintf(&v, "  - name: v%d\n    vni: %d\n    attachments:\n      - type: vxlan\n        port: host0\n        hosts:\n          - prefixes: [10.0.0.1/32]\n            vtep: 172.16.1.10\n            mac: 02:00:00:00:00:01\n", i, 1000+i)
	}
	each := prefixes / peers
	for i := range peers {
		key, err := wireguard.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&p, "  - name: p%d\n    publicKey: %s\n    tunnelAddresses: [100.65.%d.%d]\n    vpcs:\n", i, key.PublicKey(), i/256, i%256)
		for j := range each {
			fmt.Fprintf(&p, "      - name: v%d\n        prefixes: [10.%d.%d.0/24]\n", (i*each+j)%vpcs, 1+i%200, (i*each+j)/vpcs)
		}
	}
	text = before + v.String() + "peers:\n" + p.String() + after
	return strings.Replace(text, "  keyFile:", "  tunnelAddresses: [100.64.0.1]\n  keyFile:", 1)
}

func TestLargeConfigurationIsReloadedWhileTheGatewayRuns(t *testing.T) {
	_, sites := started(t)
	text, err := os.ReadFile(sites[0].config())
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(large(t, string(text), 4000, 1000, 50000))
	begin := time.Now()
	response, err := sites[0].client().Apply(t.Context(), &sluicev1.ApplyRequest{Config: text, Name: "large.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if p := response.GetProblems(); len(p) > 0 {
		t.Fatalf("%d problems, the first: %v", len(p), p[0])
	}
	t.Logf("%d bytes applied in %v", len(text), time.Since(begin))
	reach(t, sites, 3)
	begin = time.Now()
	sites[0].reload(t)
	t.Log("reloaded in", time.Since(begin))
	if status := sites[0].status(t); status.GetVpcCount() != 4001 || len(status.GetPeers()) != 1001 {
		t.Errorf("%d VPCs and %d peers in force", status.GetVpcCount(), len(status.GetPeers()))
	}
	reach(t, sites, 3)
}
