package main

import (
	"bytes"
	"testing"
)

func TestAProgramIsReadAsTcpdumpPrintsIt(t *testing.T) {
	got, err := parseProgram("2\n48 0 0 9\n6 1 2 4294967295\n")
	if want := []byte{0, 48, 0, 0, 0, 0, 0, 9, 0, 6, 1, 2, 255, 255, 255, 255}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	for _, bad := range []string{"", "x", "2\n48 0 0 9\n", "1\n48 0 0 99999999999\n"} {
		if p, err := parseProgram(bad); err == nil {
			t.Errorf("%q was read as %x", bad, p)
		}
	}
}
