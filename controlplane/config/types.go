package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// MAC is an Ethernet address; the zero value means none.
type MAC [6]byte

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// String returns the address in the form 02:51:ce:00:00:64.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is String for encoders.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts the six-byte forms of net.ParseMAC.
func (m *MAC) UnmarshalText(text []byte) error {
	a, err := net.ParseMAC(string(text))
	if err != nil || len(a) != len(m) {
		return errors.New("must be a MAC address such as 02:00:00:00:01:11")
	}
	copy(m[:], a)
	return nil
}

// PublicKey is a WireGuard public key; the zero value means none.
type PublicKey [32]byte

// IsZero reports whether no key is set.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String returns the key in base64, as wg prints it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText is String for encoders.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the base64 text of wg. Its error does not repeat the text:
// a private key that was pasted here by mistake must not reach a log.
func (k *PublicKey) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return errors.New("must be a public key: 32 bytes in base64 (44 characters), as `sluice key public` prints it")
	}
	copy(k[:], b)
	return nil
}

// Endpoint is where a peer is reached: an IP address or a DNS name, and a UDP
// port. The zero value means none.
type Endpoint struct {
	Host string
	Port uint16
}

// IsZero reports whether no endpoint is set.
func (e Endpoint) IsZero() bool { return e == Endpoint{} }

// AddrPort returns the endpoint when its host is an IP address; false means
// that Host is a DNS name, to be resolved, or that there is no endpoint.
func (e Endpoint) AddrPort() (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(e.Host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, e.Port), true
}

// String returns host:port, with brackets around an IPv6 address.
func (e Endpoint) String() string {
	if e.IsZero() {
		return ""
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// MarshalText is String for encoders.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads host:port, where host is an IPv4 address, an IPv6 address
// in brackets or a DNS name.
func (e *Endpoint) UnmarshalText(text []byte) error {
	s := string(text)
	if a, err := netip.ParseAddr(s); err == nil {
		return fmt.Errorf("has no port: write %s", net.JoinHostPort(a.String(), "51820"))
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("must be host:port, such as 198.51.100.2:51820 or [2001:db8::2]:51820")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("has port %q: must be a number from 1 to 65535", port)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	} else if !isHostName(host) {
		return fmt.Errorf("has host %q: must be an IP address or a DNS name", host)
	}
	e.Host, e.Port = host, uint16(n)
	return nil
}

// isHostName accepts what RFC 1123 section 2.1 calls a host name, and the
// underscores that some sites use. A name of digits and dots only is refused: it
// is a mistyped address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	letter := false
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
				letter = true
			case c >= '0' && c <= '9', c == '-':
			default:
				return false
			}
		}
	}
	return letter
}
