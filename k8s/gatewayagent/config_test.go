package gatewayagent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicegw/sluice/k8s/gatewayagent"
)

func TestReadConfigNamesWhatIsWrong(t *testing.T) {
	const good = "cluster: oslo\ngateway: gw-oslo\nendpoint: oslo-1\nfile: /etc/sluice/local.yaml\n"
	for name, tt := range map[string]struct {
		text string
		want []string // of the error; none: it is good
	}{
		"a good one":                      {good + "attachment: {type: vxlan, port: lan0, vteps: [172.20.0.2]}\n", nil},
		"all that is missing is reported": {"kubeconfig: x\n", []string{"cluster: missing", "gateway: missing", "endpoint: missing", "file: "}},
		"an unknown key":                  {good + "attachments: []\n", []string{"attachments"}},
		"prefixes of the attachment":      {good + "attachment: {type: vxlan, port: lan0, prefixes: [10.1.0.0/24]}\n", []string{"attachment: leave out prefixes"}},
		"a relative file":                 {strings.Replace(good, "/etc", "etc", 1), []string{"file: "}},
		"a bad cluster name":              {strings.Replace(good, "cluster: oslo", "cluster: Oslo", 1), []string{"cluster: "}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "agent.yaml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := gatewayagent.ReadConfig(file)
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q is silent about %q", err, want)
				}
			}
		})
	}
}
