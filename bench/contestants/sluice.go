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
	"github.com/sluicegw/sluice/bench/traffic"
	"github.com/sluicegw/sluice/controlplane/api"
	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

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

// Sealed is Geneve between the tunnel addresses, or of the default VPC the packet itself.
func (Sluice) Sealed(lab *scenario.Lab) traffic.Flow {
	f := innerFlow(lab)
	if lab.Overlay() {
		f.Format, f.VNI, f.VNIs = traffic.GeneveIP, scenario.VNI, lab.Scenario.VNIs
		f.Outer = traffic.Layer{Src: lab.Peers(1)[0].Tunnel, Dst: lab.Peers(0)[0].Tunnel}
	}
	return f
}

// innerFlow is a flow from end to end without anything around it.
func innerFlow(lab *scenario.Lab) traffic.Flow {
	s := lab.Scenario
	f := traffic.Flow{
		Inner: traffic.Layer{Src: scenario.Inner(1, s.Attachment), Dst: scenario.Inner(2, s.Attachment), SrcPort: 1024, DstPort: scenario.DataPort},
		Flows: s.Flows, Size: s.Size,
	}
	if s.IMIX {
		f.Sizes = traffic.IMIX()
	}
	return f
}

func pids(daemons []*scenario.Daemon) []int {
	all := make([]int, len(daemons))
	for i, d := range daemons {
		all[i] = d.PID()
	}
	return all
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
  tunnelAddresses: [{{.Tunnel}}]
{{- if .PinDir}}
direct:
  pinDir: {{.PinDir}}
{{- end}}
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
  - name: peer{{$peer.Number}}
    endpoint: {{$peer.Endpoint}}
{{- if $.PinDir}}
    encryption: none
{{- else}}
    publicKey: {{$peer.Key}}
    tunnelAddresses: [{{$peer.Tunnel}}]
{{- end}}
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
	Peers                 []scenario.Peer
	Tunnel                netip.Addr
	PinDir                string // of the XDP program, where peers have no encryption; else empty
}

// sluiceFile is the configuration, in the folder of the host.
const sluiceFile = "sluice.yaml"

// sluiceGateways is one or two `sluice run`.
type sluiceGateways struct {
	binary  string
	version string
	daemons []*scenario.Daemon
	sockets []string
}

// Build starts both gateways and waits for their session.
func (Sluice) Build(ctx context.Context, lab *scenario.Lab) (scenario.Gateways, error) {
	g, err := buildSluice(ctx, lab, func(*sluiceSettings) {})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// buildSluice starts the gateways, with settings that amend has changed. With an error it returns those that it has started.
func buildSluice(ctx context.Context, lab *scenario.Lab, amend func(*sluiceSettings)) (*sluiceGateways, error) {
	binary, version, err := program{name: "sluice", pkg: "./cmd/sluice"}.build(ctx)
	if err != nil {
		return nil, err
	}
	g := &sluiceGateways{binary: binary, version: version}
	for i, site := range lab.Ends {
		if !lab.Active(i) {
			continue
		}
		settings := sluiceSite(lab, i)
		amend(&settings)
		var text bytes.Buffer
		if err := sluiceConfiguration.Execute(&text, settings); err != nil {
			return g, err
		}
		file := filepath.Join(settings.Dir, sluiceFile)
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			return g, err
		}
		d, err := lab.Start(ctx, site.Gateway, nil, binary, "run", "-c", file)
		if err != nil {
			return g, err
		}
		g.daemons, g.sockets = append(g.daemons, d), append(g.sockets, filepath.Join(settings.Dir, "sock"))
	}
	for i, d := range g.daemons {
		if err := d.Wait(ctx, func() error { return g.ready(ctx, i) }); err != nil {
			return g, err
		}
	}
	return g, nil
}

func sluiceSite(lab *scenario.Lab, i int) sluiceSettings {
	site, s := lab.Ends[i], lab.Scenario
	settings := sluiceSettings{
		Number: site.Number, Workers: s.Workers, Port: scenario.WireGuardPort, Dir: site.Gateway.Dir(), Overlay: lab.Overlay(),
		Local:        lab.Prefixes(i),
		InnerGateway: scenario.InnerGateway(site.Number, s.Attachment), VTEP: scenario.Underlay(site.Number, false),
		OverlayMAC: scenario.OverlayMAC().String(), PodMAC: scenario.PodMAC(site.Number).String(),
		Peers: lab.Peers(i), Tunnel: lab.Peers(1 - i)[0].Tunnel,
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

func (g *sluiceGateways) PIDs() []int     { return pids(g.daemons) }
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
