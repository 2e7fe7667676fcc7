package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

func TestTheDocumentIsCurrent(t *testing.T) {
	got, err := os.ReadFile(filepath.Join("../../docs", fileName))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(generate()), string(got)); diff != "" {
		t.Errorf("run make generate (-want +got):\n%s", diff)
	}
}

func TestEveryVerdictHasAdvice(t *testing.T) {
	known := make(map[string]bool)
	for i := range xdp.NumVerdicts {
		known[xdp.Verdict(i).String()] = true
	}
	for _, v := range relay.Verdicts() {
		known[v.String()] = true
	}
	for name := range known {
		if advice[name] == "" {
			t.Errorf("%s: say in advice.go what an operator should do, then run make generate", name)
		}
	}
	for name := range advice {
		if !known[name] {
			t.Errorf("there is advice for %s, which is no verdict", name)
		}
	}
}
