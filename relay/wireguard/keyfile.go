package wireguard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxKeyFile bounds what is read: 44 characters, a newline, some white space.
const maxKeyFile = 256

// ReadPrivateKey reads a key file as `wg genkey` writes it. It refuses a file
// that group or others may access.
func ReadPrivateKey(path string) (PrivateKey, error) {
	s, err := readSecret(path)
	return PrivateKey{s}, err
}

// ReadPresharedKey reads a key file as `wg genpsk` writes it, like
// ReadPrivateKey.
func ReadPresharedKey(path string) (PresharedKey, error) {
	s, err := readSecret(path)
	return PresharedKey{s}, err
}

func readSecret(path string) (secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret{}, fmt.Errorf("read key: %w", err)
	}
	defer f.Close() // opened for reading: nothing to lose
	// The open file is checked, not the name, so that nobody can put another
	// one in its place in between.
	info, err := f.Stat()
	if err != nil {
		return secret{}, fmt.Errorf("read key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return secret{}, fmt.Errorf("read key %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return secret{}, fmt.Errorf("read key %s: group or others may access it, its mode is %#o (fix: chmod 600 %s)", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	defer clear(text)
	if err != nil {
		return secret{}, fmt.Errorf("read key: %w", err)
	}
	s, err := parseSecret(bytes.TrimSpace(text))
	if err != nil {
		return secret{}, fmt.Errorf("read key %s: %w (make one with: sluice key, or wg genkey)", path, err)
	}
	return s, nil
}

// WriteFile writes the key to a new file with mode 0600. It does not overwrite.
func (s secret) WriteFile(path string) (err error) {
	if s.IsZero() {
		return fmt.Errorf("write key %s: there is no key", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	text := append(s.RevealBase64(), '\n')
	defer clear(text)
	_, werr := f.Write(text)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		// Half a key is of no use to anyone.
		return fmt.Errorf("write key: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
