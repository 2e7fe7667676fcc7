package xdp

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// The compiled object's type information is the truth about enum verdict; it needs no privilege to read.
func TestVerdictsAreThoseOfTheProgram(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("verdict", &enum); err != nil {
		t.Fatal(err)
	}
	inC := make(map[string]uint64)
	for _, v := range enum.Values {
		inC[v.Name] = v.Value
	}
	for name, want := range map[string]uint64{
		"VERDICTS": NumVerdicts, "FIRST_DIVERT": uint64(DivertGeneve), "FIRST_DIRECT": uint64(DirectToPeer), "FIRST_DROP": uint64(DropBadWireGuard),
	} {
		if inC[name] != want {
			t.Errorf("%s is %d in C, %d in Go", name, inC[name], want)
		}
		delete(inC, name)
	}
	for v := range Verdict(NumVerdicts) {
		name := strings.ToUpper(v.String())
		if value, ok := inC[name]; !ok || value != uint64(v) {
			t.Errorf("%s is %d in Go, %d in C (present: %t)", v, v, value, ok)
		}
		delete(inC, name)
	}
	for name := range inC {
		t.Errorf("%s is not in Go", name)
	}
	if got := Verdict(NumVerdicts).String(); got != "unknown" {
		t.Errorf("a verdict that does not exist is called %q", got)
	}
}

func TestEveryVerdictExplainsItself(t *testing.T) {
	for v := range Verdict(NumVerdicts) {
		if v.Explain() == "" || v.Explain() == "unknown verdict" {
			t.Errorf("%s explains nothing", v)
		}
		if action, _, _ := strings.Cut(v.String(), "_"); v.Drop() != (action == "drop") || (actionOf(v) == 4) != (action == "divert" || action == "direct") {
			t.Errorf("%s: drop %t, action %d", v, v.Drop(), actionOf(v))
		}
	}
	if none := Verdict(NumVerdicts); none.Explain() != "unknown verdict" || none.Drop() {
		t.Errorf("a verdict that does not exist: %q, drop %t", none.Explain(), none.Drop())
	}
}

func TestLimitsAreThoseOfTheProgram(t *testing.T) {
	header, err := os.ReadFile("bpf/shared.h")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"MAX_INTERFACES": MaxInterfaces, "MAX_QUEUES": MaxQueues, "MAX_PORTS": MaxPorts, "MAX_LOCAL": MaxLocal,
		"MAX_UDP_PORTS": MaxUDPPorts, "MAX_VNIS": MaxVNIs, "MAX_PEER_ADDRESSES": MaxPeers, "MAX_ROUTES": MaxRoutes,
		"MAX_HOPS": MaxHops, "MAX_DIRECT_PEERS": MaxDirectPeers,
	} {
		m := regexp.MustCompile(`(?m)^#define ` + name + ` (\d+)\s`).FindSubmatch(header)
		if m == nil {
			t.Errorf("%s is not in shared.h", name)
		} else if got, _ := strconv.Atoi(string(m[1])); got != want {
			t.Errorf("%s is %d in C, %d in Go", name, got, want)
		}
	}
	for name, want := range map[string]int{"IPV4": familyIPv4, "IPV6": familyIPv6} {
		if !strings.Contains(string(header), fmt.Sprintf("%s = %d", name, want)) {
			t.Errorf("%s is not %d in shared.h", name, want)
		}
	}
}

func TestTheProgramsFilesNameTheirLicence(t *testing.T) {
	entries, err := os.ReadDir("bpf")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile("bpf/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		if !strings.Contains(first, "SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only") {
			t.Errorf("bpf/%s begins with %q", e.Name(), first)
		}
	}
}
