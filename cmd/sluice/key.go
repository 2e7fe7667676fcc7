package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/relay/wireguard"
)

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Short:   "Make WireGuard keys",
		GroupID: groupLocal,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyGenerate(), newKeyPreshared(), newKeyPublic())
	return cmd
}

func newKeyGenerate() *cobra.Command {
	return &cobra.Command{
		Use:   "generate FILE",
		Short: "Make a private key, write it to a new file, print the public key",
		Long: `Make a private key, write it to a new file with mode 0600, and print its public
key. With "-" the private key goes to standard output, which must not be a
terminal, and nothing else is printed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := wireguard.NewPrivateKey()
			if err != nil {
				return err
			}
			defer k.Zero()
			if err := writeSecret(cmd, args[0], k); err != nil || args[0] == "-" {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.PublicKey())
			return err
		},
	}
}

func newKeyPreshared() *cobra.Command {
	return &cobra.Command{
		Use:   "preshared FILE",
		Short: "Make a pre-shared key and write it to a new file",
		Long: `Make a pre-shared key and write it to a new file with mode 0600. With "-" it goes
to standard output, which must not be a terminal.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := wireguard.NewPresharedKey()
			if err != nil {
				return err
			}
			defer k.Zero()
			return writeSecret(cmd, args[0], k)
		},
	}
}

// secretKey is a private or a pre-shared key.
type secretKey interface {
	WriteFile(path string) error
	RevealBase64() []byte
}

func writeSecret(cmd *cobra.Command, file string, k secretKey) error {
	if file != "-" {
		return k.WriteFile(file)
	}
	out := cmd.OutOrStdout()
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		return errors.New("a secret key is not shown on a terminal: name a file, or send it to a pipe")
	}
	text := append(k.RevealBase64(), '\n')
	defer clear(text)
	_, err := out.Write(text)
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func newKeyPublic() *cobra.Command {
	return &cobra.Command{
		Use:   "public [FILE]",
		Short: "Print the public key of a private key file, or of standard input",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := readPrivateKey(cmd, args)
			if err != nil {
				return err
			}
			defer k.Zero()
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.PublicKey())
			return err
		},
	}
}

func readPrivateKey(cmd *cobra.Command, args []string) (wireguard.PrivateKey, error) {
	if len(args) > 0 && args[0] != "-" {
		return wireguard.ReadPrivateKey(args[0])
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1024))
	defer clear(text)
	if err != nil {
		return wireguard.PrivateKey{}, err
	}
	k, err := wireguard.ParsePrivateKey(string(bytes.TrimSpace(text)))
	if err != nil {
		return wireguard.PrivateKey{}, fmt.Errorf("standard input: %w", err)
	}
	return k, nil
}
