package wireguard

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// forms are all the texts that would give a secret away.
func forms(secret []byte) []string {
	decimal := strings.Trim(fmt.Sprint(secret), "[]")
	var list []string
	for _, b := range secret {
		list = append(list, fmt.Sprintf("%#x", b))
	}
	return []string{
		string(secret), base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		base64.URLEncoding.EncodeToString(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		decimal, strings.Join(list, ", "), strings.ReplaceAll(decimal, " ", ","),
	}
}

// assertSilent fails when a text holds one of the secrets in any form.
func assertSilent(t *testing.T, what, text string, secrets ...[]byte) {
	t.Helper()
	for i, s := range secrets {
		for j, f := range forms(s) {
			if strings.Contains(text, f) {
				t.Errorf("%s gives secret %d away in form %d: %s", what, i, j, text)
			}
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	private, psk := must(NewPrivateKey()), must(NewPresharedKey())
	secrets := [][]byte{private.key()[:], psk.key()[:]}
	type inside struct { // fmt prints unexported fields without asking their methods
		Key  PrivateKey
		PSK  PresharedKey
		key  PrivateKey
		psk  PresharedKey
		list []PrivateKey
	}
	values := []any{
		private, &private, psk, &psk, inside{private, psk, private, psk, []PrivateKey{private}},
		&inside{private, psk, private, psk, nil}, []PrivateKey{private}, map[string]PresharedKey{"k": psk},
		Options{PrivateKey: private}, PeerConfig{PresharedKey: psk},
	}
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	logJSON := slog.New(slog.NewJSONHandler(&text, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "% x"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		fmt.Fprintln(&text, v)
		log.Info("x", "v", v)
		logJSON.Info("x", "v", v)
		if _, has := v.(Options); !has { // a func has no JSON
			text.Write(must(json.Marshal(v)))
		}
	}
	text.Write(must(yaml.Marshal(map[string]any{"a": private, "b": psk})))
	text.Write(must(json.Marshal(map[string]any{"a": private, "b": &psk})))
	text.Write(must(private.MarshalText()))
	text.Write(must(private.MarshalBinary()))
	text.WriteString(private.String() + private.GoString() + private.LogValue().String())
	assertSilent(t, "printing", text.String(), secrets...)
	if !strings.Contains(text.String(), redacted) {
		t.Error("nothing was redacted: the test prints nothing")
	}
}

func TestLogsAndStatusHoldNoSecrets(t *testing.T) {
	var text bytes.Buffer
	logged := func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	}
	w := newWorld(t)
	a, b, c := w.add("192.0.2.1:1", logged), w.add("192.0.2.2:2", logged), w.add("192.0.2.3:3", logged)
	psk := must(NewPresharedKey())
	toB, toA := a.peer(b, PeerConfig{PresharedKey: psk}), b.peer(a, PeerConfig{PresharedKey: psk})
	stranger := c.peer(a, PeerConfig{})
	var secrets [][]byte
	keep := func(k *[keySize]byte) { secrets = append(secrets, bytes.Clone(k[:])) }
	for _, n := range w.nodes {
		keep(n.key.key())
	}
	keep(psk.key())
	a.say(toB, "x")
	a.work()
	eph := toB.initiation.handshake.state.LocalEphemeral().Private
	secrets = append(secrets, bytes.Clone(eph))
	w.settle()
	c.say(stranger, "x")
	w.pass(600e9)
	a.say(toB, "x")
	w.settle()
	key := must(NewPrivateKey())
	keep(key.key())
	if err := a.d.SetPrivateKey(key); err != nil {
		t.Fatal(err)
	}
	w.pass(200e9)
	for _, v := range []any{toA, toB, toA.Status(), a.d} {
		fmt.Fprintf(&text, "%v %+v %#v %s\n", v, v, v, v)
	}
	fmt.Fprintf(&text, "%s", must(json.Marshal(toA.Status())))
	if _, err := a.d.SetPeer(PeerConfig{PublicKey: a.d.PublicKey(), PresharedKey: psk}); err != nil {
		text.WriteString(err.Error())
	} else {
		t.Error("our own key was accepted as a peer's")
	}
	for _, want := range []string{"session established", "giving up", "unknown peer", "forgetting all keys", "private key changed"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the test did not make the log line %q", want)
		}
	}
	assertSilent(t, "log or status", text.String(), secrets...)
}

func TestKeyTexts(t *testing.T) {
	k := must(NewPrivateKey())
	same := must(ParsePrivateKey(string(k.RevealBase64())))
	if !same.Equal(k) || same.PublicKey() != k.PublicKey() {
		t.Error("the key changed on its way through text")
	}
	if p := must(ParsePublicKey(k.PublicKey().String())); p != k.PublicKey() {
		t.Error("the public key changed on its way through text")
	}
	secret := string(k.RevealBase64())
	for _, bad := range []string{
		"", "x", secret[:43], secret + "=", secret[:43] + "x", secret[:42] + "==", " " + secret[1:],
		secret[:20] + "!" + secret[21:], secret[:20] + "\n" + secret[20:43],
		strings.Repeat("A", 42) + "B=", // bits behind the key
	} {
		for name, err := range map[string]error{
			"public": second(ParsePublicKey(bad)), "private": second(ParsePrivateKey(bad)), "preshared": second(ParsePresharedKey(bad)),
		} {
			if err == nil {
				t.Errorf("%s key %q was accepted", name, bad)
			} else if len(bad) > 10 && strings.Contains(err.Error(), bad[1:10]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		}
	}
	if err := second(ParsePrivateKey(strings.Repeat("A", 43) + "=")); err == nil {
		t.Error("the zero key was accepted")
	}
}

func second[T any](_ T, err error) error { return err }

func TestCopiesShareMemoryAndClonesDoNot(t *testing.T) {
	k := must(NewPrivateKey())
	same, clone := k, k.Clone()
	k.Zero()
	if *same.key() != ([keySize]byte{}) {
		t.Error("a copy was not zeroed")
	}
	if *clone.key() == ([keySize]byte{}) || clone.Equal(k) {
		t.Error("the clone was zeroed")
	}
	PrivateKey{}.Zero() // nothing to do
	if !k.IsZero() || clone.IsZero() || !(PrivateKey{}).IsZero() {
		t.Error("a zeroed key counts as a key, or a key as none")
	}
	if _, err := New(Options{PrivateKey: k, Send: func(Datagram) {}}); err == nil {
		t.Error("a zeroed key was accepted")
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "wg.key")
	k := must(NewPrivateKey())
	if err := k.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if info := must(os.Stat(path)); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if got := must(ReadPrivateKey(path)); !got.Equal(k) {
		t.Error("another key came back")
	}
	if err := k.WriteFile(path); err == nil {
		t.Error("an existing key was overwritten")
	}
	if _, err := ReadPresharedKey(path); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"readable by the group", func(p string) error { return writeMode(p, k.RevealBase64(), 0o640) }, "chmod 600 "},
		{"readable by others", func(p string) error { return writeMode(p, k.RevealBase64(), 0o604) }, "chmod 600 "},
		{"writable by the group", func(p string) error { return writeMode(p, k.RevealBase64(), 0o620) }, "chmod 600 "},
		{"a folder", func(p string) error { return os.Mkdir(p, 0o700) }, "not a regular file"},
		{"empty", func(p string) error { return writeMode(p, nil, 0o600) }, "wg genkey"},
		{"too long", func(p string) error { return writeMode(p, bytes.Repeat([]byte("A"), 1000), 0o600) }, "44 characters"},
		{"missing", func(string) error { return nil }, "no such file"},
	} {
		p := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
		if err := c.make(p); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPrivateKey(p)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v, want it to name the file and say %q", c.name, err, c.want)
			continue
		}
		assertSilent(t, "the error", err.Error(), k.key()[:])
	}
}

func writeMode(path string, text []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask is
}
