package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTheBarIsDrawnAndGoesAway(t *testing.T) {
	var b bytes.Buffer
	bar := &benchBar{out: &b}
	bar.set(0, 10, "mtu")
	bar.set(5, 10, "up 64 B, 1.0 kpps")
	bar.end()
	if text := b.String(); !strings.Contains(text, "up 64 B, 1.0 kpps") || !strings.Contains(text, "50%") || strings.Contains(text, "\n") {
		t.Errorf("%q", text)
	}
	// What is no terminal gets nothing.
	b.Reset()
	bar = newBenchBar(&b)
	bar.set(1, 2, "x")
	bar.end()
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}

func TestWithoutAPortTheUsualOneIsMeant(t *testing.T) {
	for to, want := range map[string]string{
		"a": "a:7411", "a:1": "a:1", "10.0.0.1": "10.0.0.1:7411", "fd00::1": "[fd00::1]:7411", "[fd00::1]": "[fd00::1]:7411", "[fd00::1]:5": "[fd00::1]:5",
	} {
		if got := withBenchPort(to); got != want {
			t.Errorf("%s: %s", to, got)
		}
	}
}
