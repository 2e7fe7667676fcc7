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
  - name: site0               # to the site's switch, and the nodes on it
  - name: host0               # to a plain host
  - name: wan0
wireguard:
  keyFile: {{.KeyFile}}
  listenPort: {{.Port}}
  tunnelAddresses: [{{.Tunnel4}}, "{{.Tunnel6}}"]
vpcs:
  - name: default
    attachments:
      - type: routed
        port: host0
        prefixes: [{{.HostPrefix4}}, "{{.HostPrefix6}}"]
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
  - name: {{.Peer.Gateway}}
    publicKey: {{.Peer.PublicKey}}
    presharedKeyFile: {{.SharedFile}}
    endpoint: "{{.Peer.Endpoint}}"
{{- if gt .Workers 1}}
    flowPort: 49152           # flows differ in their source port, and so reach all queues
    flowPortCount: 64
{{- end}}
    tunnelAddresses: [{{.Peer.Tunnel4}}, "{{.Peer.Tunnel6}}"]
    vpcs:
      - name: default
        prefixes: [{{.Peer.HostPrefix4}}, "{{.Peer.HostPrefix6}}"]
{{- range .Peer.VPCs}}
      - name: {{.Name}}
        vni: {{.VNI}}              # its number at {{$.Peer.Site}}
        prefixes: [{{$.Peer.PodPrefix4}}, "{{$.Peer.PodPrefix6}}"]
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
	Peer                     *settings
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
	var all [2]*settings
	for i, s := range l.sites {
		if all[i], err = s.settings(shared); err != nil {
			return fmt.Errorf("gateway %s: %w", s.gateway.name, err)
		}
	}
	for i, s := range l.sites {
		all[i].Peer = all[1-i]
		var text bytes.Buffer
		if err := configuration.Execute(&text, all[i]); err != nil {
			return fmt.Errorf("gateway %s: %w", s.gateway.name, err)
		}
		if err := os.WriteFile(s.gateway.configFile(), text.Bytes(), 0o600); err != nil {
			return fmt.Errorf("gateway %s: %w", s.gateway.name, err)
		}
	}
	return nil
}

func (s *site) settings(shared wireguard.PresharedKey) (*settings, error) {
	private, err := wireguard.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	defer private.Zero()
	tunnels, hosts := s.addrs("100.64.0.%d", "fd64::%d"), s.prefixes("172.16.%d.0/24", "fd16:%d::/64")
	pods, gateways := s.prefixes("10.%d.0.0/16", "fd10:%d::/64"), s.addrs("10.%d.0.1", "fd10:%d::1")
	out := &settings{
		Site: s.name, Gateway: s.gateway.name, Overlay: string(s.overlay),
		KeyFile:    filepath.Join(s.gateway.host.Dir(), "wg.key"),
		SharedFile: filepath.Join(s.gateway.host.Dir(), "wg.psk"),
		Socket:     s.gateway.socket(),
		Workers:    s.lab.workers,
		Port:       wireGuardPort, PublicKey: private.PublicKey(),
		Endpoint: netip.AddrPortFrom(s.wan(2, s.lab.outer).Addr(), wireGuardPort),
		Tunnel4:  tunnels[0], Tunnel6: tunnels[1],
		HostPrefix4: hosts[0], HostPrefix6: hosts[1],
		PodPrefix4: pods[0], PodPrefix6: pods[1],
		PodGateway4: gateways[0], PodGateway6: gateways[1],
	}
	for _, vpc := range vpcs {
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
