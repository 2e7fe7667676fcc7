package sluice_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluicegw/sluice/"

// rule bans imports from one part of the tree. Tests are exempt: they wire parts together on purpose.
type rule struct {
	from    string   // the folder and all below it
	except  []string // folders below from that have a rule of their own
	only    []string // when set: of our module and of third parties, only these prefixes
	banned  []string // prefixes of import paths
	because string
}

var rules = []rule{
	{
		from: "afxdp", only: []string{"golang.org/x/sys"},
		because: "afxdp moves frames and knows nothing of packets, programs or gateways",
	},
	{
		from: "internal/packet", only: []string{"golang.org/x/sys"},
		because: "wire formats depend on nothing but the standard library",
	},
	{
		from:    "xdp",
		banned:  []string{module + "afxdp", module + "relay", module + "routing", module + "controlplane", module + "k8s", module + "internal/gateway"},
		because: "the XDP program is told what to do in its own words; it works without the relay",
	},
	{
		from: "relay", except: []string{"relay/wireguard"},
		banned:  []string{module + "xdp", module + "routing", module + "controlplane", module + "k8s", module + "internal/gateway", "github.com/cilium/ebpf"},
		because: "the pipeline runs on any port, in memory too; who programs the NIC and where routes come from is not its business",
	},
	{
		from:    "relay/wireguard",
		banned:  []string{module + "afxdp", module + "xdp", module + "internal", module + "routing", module + "controlplane", module + "k8s"},
		because: "the protocol works on plain buffers, so that it can be tested and used alone",
	},
	{
		from:    "routing",
		banned:  []string{module + "xdp", module + "afxdp", module + "relay", module + "controlplane", module + "k8s", module + "internal/gateway"},
		because: "BGP fills internal/fib and knows nothing of packets",
	},
	{
		from:    "controlplane",
		banned:  []string{module + "xdp", module + "afxdp", module + "routing", module + "k8s", module + "internal/gateway", "github.com/cilium/ebpf"},
		because: "configuration and API are usable without a data plane (the CLI runs on a laptop)",
	},
	{
		from:    "k8s",
		banned:  []string{module + "xdp", module + "afxdp", module + "relay", module + "routing", module + "internal/gateway", module + "internal/kubetest"},
		because: "Kubernetes says who the peers are, over the API; it is never linked into the packet path",
	},
	{
		from:    "internal/kubetest",
		banned:  []string{module + "xdp", module + "afxdp", module + "relay", module + "routing", module + "controlplane", module + "k8s", module + "internal/gateway", "k8s.io/", "sigs.k8s.io/"},
		because: "it runs real clusters for anybody's tests, and is told what to run in them",
	},
	{
		from:    "internal/gateway",
		banned:  []string{"k8s.io/", "sigs.k8s.io/"},
		because: "the data-plane process does not link the Kubernetes client",
	},
	{
		from:    "",
		banned:  []string{module + "bench", module + "cmd"},
		except:  []string{"bench", "cmd"},
		because: "benchmarks and commands are leaves",
	},
}

func TestImportsPointDown(t *testing.T) {
	fset := token.NewFileSet()
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		file, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if r.applies(filepath.ToSlash(filepath.Dir(path))) && r.forbids(imported) {
					t.Errorf("%s imports %s: %s", path, imported, r.because)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d Go files seen: the walk is broken", files)
	}
}

func (r rule) applies(dir string) bool {
	for _, except := range r.except {
		if within(dir, except) {
			return false
		}
	}
	return within(dir, r.from)
}

func (r rule) forbids(imported string) bool {
	if len(r.only) > 0 {
		first, _, _ := strings.Cut(imported, "/")
		thirdParty := strings.Contains(first, ".")
		own := strings.HasPrefix(imported, module+r.from)
		return thirdParty && !own && !hasPrefix(imported, r.only)
	}
	return hasPrefix(imported, r.banned)
}

func within(dir, folder string) bool {
	return folder == "" || dir == folder || strings.HasPrefix(dir, folder+"/")
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
