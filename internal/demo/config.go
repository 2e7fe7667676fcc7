package demo

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/sluicegw/sluice/relay/wireguard"
)

// wireGuardPort is where both gateways listen; all that the WAN sees is between
// these.
const wireGuardPort = 51820

// configuration is a gateway's file. Someone who looks around in a demo that was
// kept reads it, so it says no more than it has to.
var configuration = template.Must(template.New("sluice.yaml").Parse(`# Gateway {{.Gateway}} of the demo.
site: {{.Site}}
gateway: {{.Gateway}}
workers: {{.Workers}}                    # each has a queue of every port
ports:
{{- if .VPCs}}
  - name: site0               # to the site's switch, and the nodes on it
{{- end}}
  - name: host0               # to {{if .Router.IsValid}}the site's router{{else}}a plain host{{end}}
  - name: wan0
wireguard:
  keyFile: {{.KeyFile}}
  listenPort: {{.Port}}
  tunnelAddresses: [{{.Tunnel4}}, "{{.Tunnel6}}"]
{{- if .Router.IsValid}}
  tun: {name: sluice0}        # BGP with the other site's gateways runs inside the tunnels
{{- end}}
vpcs:
  - name: default
    attachments:
      - type: routed
        port: host0
{{- if not .Router.IsValid}}
        prefixes: [{{.HostPrefix4}}, "{{.HostPrefix6}}"]
{{- end}}
{{- range .VPCs}}
  - name: {{.Name}}
    vni: {{.VNI}}
    gatewayAddresses: [{{$.PodGateway4}}, "{{$.PodGateway6}}"]
    attachments:
      - type: {{$.Overlay}}
        port: site0
        hosts:
{{- range .Pods}}
          - prefixes: [{{.Addr4}}/32, "{{.Addr6}}/128"]
            vtep: "{{.VTEP}}"
            mac: "{{.MAC}}"
{{- end}}
{{- end}}
peers:
{{- range $peer := .Peers}}
  - name: {{.Gateway}}
    publicKey: {{.PublicKey}}
    presharedKeyFile: {{$.SharedFile}}
    endpoint: "{{.Endpoint}}"
{{- if gt .Workers 1}}
    flowPort: 49152           # flows differ in their source port, and so reach all queues
    flowPortCount: 64
{{- end}}
    tunnelAddresses: [{{.Tunnel4}}, "{{.Tunnel6}}"]
{{- if $.Router.IsValid}}
    bgp: {enabled: true}      # it announces what it has, of what it may have
{{- end}}
    vpcs:
      - name: default
        {{$.Prefixes}}: [{{.HostPrefix4}}, "{{.HostPrefix6}}"]
{{- if $.VPCs}}
{{- range .VPCs}}
      - name: {{.Name}}
        vni: {{.VNI}}              # its number at {{$peer.Site}}
        {{$.Prefixes}}: [{{$peer.PodPrefix4}}, "{{$peer.PodPrefix6}}"]
{{- end}}
{{- end}}
{{- end}}
{{- if .Router.IsValid}}
bgp:
  asn: {{.AS}}
  routerID: {{.Tunnel4}}
  evpn: {asn: 65000}          # among gateways
  prefixLists:
    - name: site
      prefixes: [{prefix: {{.HostPrefix4}}}, {prefix: "{{.HostPrefix6}}"}]
  policies:
    - name: from-site
      rules: [{prefixLists: [site]}]
    - name: to-site
      rules: [{}]
  neighbours:
    - name: router
      port: host0
      address: {{.Router}}
      asn: {{.RouterAS}}
      import: from-site
      export: to-site
      connectRetry: 1s
{{- end}}
api:
  socket: {{.Socket}}
`))

// settings is what goes into a gateway's file, and from the peer's settings.
type settings struct {
	Site, Gateway            string
	Overlay                  string
	KeyFile, SharedFile      string
	Socket                   string
	Workers, Port            int
	PublicKey                wireguard.PublicKey
	Endpoint                 netip.AddrPort
	Tunnel4, Tunnel6         netip.Addr
	HostPrefix4, HostPrefix6 netip.Prefix
	PodPrefix4, PodPrefix6   netip.Prefix
	PodGateway4, PodGateway6 netip.Addr
	VPCs                     []vpcSettings
	Router                   netip.Addr // invalid: there is none
	AS, RouterAS             int
	Peers                    []*settings
}

// Prefixes is how a peer's are named: what it may announce where there is BGP, what it has where there is none.
func (s *settings) Prefixes() string {
	if s.Router.IsValid() {
		return "allowedPrefixes"
	}
	return "prefixes"
}

type vpcSettings struct {
	Name string
	VNI  uint32
	Pods []podSettings
}

type podSettings struct {
	Addr4, Addr6, VTEP netip.Addr
	MAC                string
}

// configure makes the keys and writes the gateways' files.
func (l *lab) configure() error {
	shared, err := wireguard.NewPresharedKey()
	if err != nil {
		return err
	}
	defer shared.Zero()
	var all [2][]*settings
	for i, s := range l.sites {
		for number, g := range s.gateways() {
			made, err := s.settings(number, g, shared)
			if err != nil {
				return fmt.Errorf("gateway %s: %w", g.name, err)
			}
			all[i] = append(all[i], made)
		}
	}
	for i, s := range l.sites {
		for number, g := range s.gateways() {
			all[i][number].Peers = all[1-i]
			var text bytes.Buffer
			if err := configuration.Execute(&text, all[i][number]); err != nil {
				return fmt.Errorf("gateway %s: %w", g.name, err)
			}
			if err := os.WriteFile(g.configFile(), text.Bytes(), 0o600); err != nil {
				return fmt.Errorf("gateway %s: %w", g.name, err)
			}
		}
	}
	return nil
}

// settings of a site's first (0) or second gateway.
func (s *site) settings(number int, g *gateway, shared wireguard.PresharedKey) (*settings, error) {
	private, err := wireguard.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	tunnels, endpoint := s.addrs("100.64.0.%d", "fd64::%d"), s.wan(2, s.lab.outer)
	if number > 0 {
		tunnels, endpoint = s.addrs("100.64.1.%d", "fd64:1::%d"), s.wanSecond(2, s.lab.outer)
	}
	hosts := s.prefixes("172.16.%d.0/24", "fd16:%d::/64")
	pods, gateways := s.prefixes("10.%d.0.0/16", "fd10:%d::/64"), s.addrs("10.%d.0.1", "fd10:%d::1")
	out := &settings{
		Site: s.name, Gateway: g.name, Overlay: string(s.overlay),
		KeyFile:    filepath.Join(g.host.Dir(), "wg.key"),
		SharedFile: filepath.Join(g.host.Dir(), "wg.psk"),
		Socket:     g.socket(),
		Workers:    s.lab.workers,
		Port:       wireGuardPort, PublicKey: private.PublicKey(),
		Endpoint: netip.AddrPortFrom(endpoint.Addr(), wireGuardPort),
		Tunnel4:  tunnels[0], Tunnel6: tunnels[1],
		HostPrefix4: hosts[0], HostPrefix6: hosts[1],
		PodPrefix4: pods[0], PodPrefix6: pods[1],
		PodGateway4: gateways[0], PodGateway6: gateways[1],
	}
	if s.lab.routers {
		out.Router, out.AS, out.RouterAS = s.onLink(number, 2)[0], s.gatewayAS(), s.routerAS()
	}
	for _, vpc := range vpcs {
		if number > 0 {
			break // pods have one gateway
		}
		v := vpcSettings{Name: vpc, VNI: s.vnis[vpc]}
		for _, e := range s.pods {
			if e.vpc == vpc {
				v.Pods = append(v.Pods, podSettings{Addr4: e.addrs[0], Addr6: e.addrs[1], VTEP: s.vtep(e.node).Addr(), MAC: e.mac.String()})
			}
		}
		out.VPCs = append(out.VPCs, v)
	}
	return out, errors.Join(private.WriteFile(out.KeyFile), shared.WriteFile(out.SharedFile))
}
