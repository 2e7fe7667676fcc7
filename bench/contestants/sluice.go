package contestants

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/sluicegw/sluice/bench/method"
	"github.com/sluicegw/sluice/bench/scenario"
	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
	"github.com/sluicegw/sluice/relay/wireguard"
)

// wireGuardPort is where every WireGuard gateway listens.
const wireGuardPort = 51820

// Sluice is the gateway of this repository, encrypting.
type Sluice struct{}

// Name of the contestant.
func (Sluice) Name() string { return "sluice" }

// Attachments of the contestant.
func (Sluice) Attachments() []string { return []string{scenario.VXLAN, scenario.Routed} }

// Supports everything.
func (Sluice) Supports(s method.Scenario) error {
	if s.VNIs > 1 && s.Attachment == scenario.Routed {
		return fmt.Errorf("%w: a routed attachment has no VNIs", method.ErrUnavailable)
	}
	return nil
}

var sluiceConfiguration = template.Must(template.New("sluice.yaml").Parse(`site: site{{.Number}}
gateway: gw{{.Number}}
workers: {{.Workers}}
ports:
  - name: site0
  - name: wan0
wireguard:
  keyFile: {{.Dir}}/wg.key
  listenPort: {{.Port}}
  tunnelAddresses: [100.64.0.{{.Number}}]
vpcs:
  - name: default
{{- if not .Overlay}}
    attachments:
      - type: routed
        port: site0
        prefixes: [{{range $i, $p := .Local}}{{if $i}}, {{end}}{{$p}}{{end}}]
{{- end}}
{{- range .VPCs}}
  - name: vpc{{.}}
    vni: {{.}}
    gatewayAddresses: [{{$.InnerGateway}}]
    gatewayMAC: {{$.OverlayMAC}}
    attachments:
      - type: vxlan
        port: site0
        hosts:
          - prefixes: [{{range $i, $p := $.Local}}{{if $i}}, {{end}}{{$p}}{{end}}]
            vtep: {{$.VTEP}}
            mac: {{$.PodMAC}}
{{- end}}
peers:
{{- range $peer := .Peers}}
  - name: {{$peer.Name}}
    publicKey: {{$peer.Key}}
    endpoint: {{$peer.Endpoint}}
    tunnelAddresses: [{{$peer.Tunnel}}]
    vpcs:
{{- if $.Overlay}}
{{- range $.VPCs}}
      - name: vpc{{.}}
        prefixes: [{{range $i, $p := $peer.Prefixes}}{{if $i}}, {{end}}{{$p}}{{end}}]
{{- end}}
{{- else}}
      - name: default
        prefixes: [{{range $i, $p := $peer.Prefixes}}{{if $i}}, {{end}}{{$p}}{{end}}]
{{- end}}
{{- end}}
api:
  socket: {{.Dir}}/sock
`))

type sluiceSettings struct {
	Number, Workers, Port int
	Dir                   string
	Overlay               bool
	Local                 []netip.Prefix
	VPCs                  []int
	InnerGateway, VTEP    netip.Addr
	OverlayMAC, PodMAC    string
	Peers                 []sluicePeer
}

type sluicePeer struct {
	Name     string
	Key      wireguard.PublicKey
	Endpoint netip.AddrPort
	Tunnel   netip.Addr
	Prefixes []netip.Prefix
}

// sluiceGateways is two `sluice run`.
type sluiceGateways struct {
	version string
	daemons [2]*scenario.Daemon
	sockets [2]string
}

// Build starts both gateways and waits for their session.
func (Sluice) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	binary, version, err := program{name: "sluice", pkg: "./cmd/sluice"}.build(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := lab.Keys()
	if err != nil {
		return nil, err
	}
	g := &sluiceGateways{version: version}
	for i, site := range lab.Ends {
		settings := sluiceSite(lab, i, keys)
		var text bytes.Buffer
		if err := sluiceConfiguration.Execute(&text, settings); err != nil {
			return nil, err
		}
		file := filepath.Join(settings.Dir, "sluice.yaml")
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			return nil, err
		}
		g.sockets[i] = filepath.Join(settings.Dir, "sock")
		if g.daemons[i], err = lab.Start(ctx, site.Gateway, nil, binary, "run", "-c", file); err != nil {
			return nil, err
		}
	}
	for i, d := range g.daemons {
		if err := d.Wait(ctx, func() error { return g.ready(ctx, i) }); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func sluiceSite(lab *scenario.Lab, i int, keys [2]wireguard.PrivateKey) sluiceSettings {
	site, peer, s := lab.Ends[i], lab.Ends[1-i], lab.Scenario
	settings := sluiceSettings{
		Number: site.Number, Workers: s.Workers, Port: wireGuardPort, Dir: site.Gateway.Dir(), Overlay: lab.Overlay(),
		Local:        lab.Prefixes(i),
		InnerGateway: scenario.InnerGateway(site.Number, s.Attachment), VTEP: scenario.Underlay(site.Number, false),
		OverlayMAC: scenario.OverlayMAC().String(), PodMAC: scenario.PodMAC(site.Number).String(),
		Peers: []sluicePeer{{
			Name: fmt.Sprint("gw", peer.Number), Key: keys[1-i].PublicKey(),
			Endpoint: netip.AddrPortFrom(scenario.WAN(peer.Number), wireGuardPort),
			Tunnel:   netip.AddrFrom4([4]byte{100, 64, 0, byte(peer.Number)}),
			Prefixes: lab.RoutesTo(1 - i),
		}},
	}
	if lab.Overlay() {
		for vni := range s.VNIs {
			settings.VPCs = append(settings.VPCs, scenario.VNI+vni)
		}
	}
	return settings
}

func (g *sluiceGateways) ready(ctx context.Context, i int) error {
	status, err := api.Dial(g.sockets[i]).Status(ctx, &sluicev1.StatusRequest{})
	if err != nil {
		return err
	}
	if status.GetHealth() != sluicev1.Health_HEALTH_READY {
		return fmt.Errorf("its status is %s: %s", status.GetHealth(), strings.Join(status.GetProblems(), "; "))
	}
	return nil
}

func (g *sluiceGateways) PIDs() []int     { return []int{g.daemons[0].PID(), g.daemons[1].PID()} }
func (g *sluiceGateways) Version() string { return g.version }

// Restart kills the first gateway and starts it again.
func (g *sluiceGateways) Restart(ctx context.Context) error { return g.daemons[0].Restart(ctx) }

// LastHandshake asks the first gateway.
func (g *sluiceGateways) LastHandshake(ctx context.Context) (time.Time, error) {
	answer, err := api.Dial(g.sockets[0]).Peers(ctx, &sluicev1.PeersRequest{})
	if err != nil {
		return time.Time{}, err
	}
	for _, p := range answer.GetPeers() {
		if p.GetLastHandshake() != nil {
			return p.GetLastHandshake().AsTime(), nil
		}
	}
	return time.Time{}, fmt.Errorf("no handshake yet")
}

// Renewal is WireGuard's REKEY_AFTER_TIME.
func (g *sluiceGateways) Renewal() time.Duration { return 120 * time.Second }
