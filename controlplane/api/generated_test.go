package api

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	sluicev1 "github.com/sluicegw/sluice/controlplane/api/sluice/v1"
)

// TestTheGeneratedCodeIsCurrent generates again and compares byte for byte.
func TestTheGeneratedCodeIsCurrent(t *testing.T) {
	dir := t.TempDir()
	const proto = "sluice/v1/sluice.proto"
	source, err := os.ReadFile(proto)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "sluice/v1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, proto), source, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "run", "./internal/protogen", "-root", dir, proto).CombinedOutput(); err != nil {
		t.Fatalf("protogen: %v\n%s", err, out)
	}
	for _, name := range []string{"sluice/v1/sluice.pb.go", "sluice/v1/sluicev1connect/sluice.connect.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is stale (go generate ./controlplane/api writes it):\n%s", name, diff)
		}
	}
}

// TestNoMessageHasRoomForASecret: the only word of a key in the API is public,
// or whether there is one.
func TestNoMessageHasRoomForASecret(t *testing.T) {
	suspicious := regexp.MustCompile(`key|secret|psk|token|password`)
	allowed := map[string]bool{"public_key": true, "has_preshared_key": true}
	messages := sluicev1.File_sluice_v1_sluice_proto.Messages()
	fields := 0
	for i := range messages.Len() {
		all := messages.Get(i).Fields()
		for j := range all.Len() {
			fields++
			f := all.Get(j)
			if suspicious.MatchString(string(f.Name())) && !allowed[string(f.Name())] {
				t.Errorf("%s may hold a secret", f.FullName())
			}
			if f.Name() == "has_preshared_key" && f.Kind() != protoreflect.BoolKind {
				t.Errorf("%s is more than yes or no", f.FullName())
			}
		}
	}
	if fields < 50 {
		t.Errorf("only %d fields seen", fields)
	}
}
