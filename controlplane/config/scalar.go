package config

import (
	"encoding"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// describe names what a value of the type looks like.
func describe(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return "an address"
	case reflect.TypeFor[netip.Prefix]():
		return "a prefix"
	case reflect.TypeFor[MAC]():
		return "a MAC address"
	case reflect.TypeFor[PublicKey]():
		return "a public key"
	case reflect.TypeFor[Endpoint]():
		return "host:port"
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 25s"
	case reflect.TypeFor[Rate]():
		return "a rate such as 100M"
	case reflect.TypeFor[Protocol]():
		return "a protocol such as tcp"
	case reflect.TypeFor[PortRange]():
		return "a port or a range of ports"
	case reflect.TypeFor[RouterID]():
		return "an IPv4 address"
	case reflect.TypeFor[RouterAddress]():
		return "an address, or a prefix of addresses"
	case reflect.TypeFor[Community]():
		return "a community such as 65001:100"
	case reflect.TypeFor[ASNRange]():
		return "an AS number or a range of them"
	case reflect.TypeFor[ICMPType]():
		return "an ICMP type such as 8, or type and code such as 3/4"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	default:
		return "a whole number"
	}
}

// scalar decodes a scalar node.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, f *field) {
	fail := func(format string, args ...any) {
		d.addAt(position{n.Line, n.Column}, path, format, args...)
	}
	if v.Kind() != reflect.String && n.Value == "" {
		fail("must be %s, not empty", describe(v.Type()))
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = parseAddr(n.Value, fail)
		return
	case *netip.Prefix:
		*p = parsePrefix(n.Value, fail)
		return
	case *time.Duration:
		*p = parseDuration(n.Value, fail)
		return
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(n.Value)); err != nil {
			fail("%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		if n.Tag != "!!bool" {
			fail("must be true or false, not %s", kindText(n))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.String:
		switch {
		case n.Tag != "!!str" && f.enum != nil: // quotes would not help
			fail("%s, not %s", enumText(f.enum), kindText(n))
		case n.Tag != "!!str":
			fail("must be a string, not %s: put quotes around it", kindText(n))
		case strings.ContainsFunc(n.Value, func(c rune) bool { return !unicode.IsPrint(c) }):
			fail("must not hold control characters")
		default:
			v.SetString(n.Value)
		}
	default:
		d.number(n, v, fail, f)
	}
}

// number decodes a whole number. What does not fit the type is out of the key's
// range, which the tags keep within the type.
func (d *decoder) number(n *yaml.Node, v reflect.Value, fail func(string, ...any), f *field) {
	if n.Tag != "!!int" {
		fail("must be a whole number, not %s", kindText(n))
		return
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
	if err != nil || i < f.min || i > f.max {
		fail("%s, not %s", f.rangeText(), n.Value)
		return
	}
	if v.CanInt() {
		v.SetInt(i)
	} else {
		v.SetUint(uint64(i))
	}
}

func parseAddr(s string, fail func(string, ...any)) netip.Addr {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		if p, err := netip.ParsePrefix(s); err == nil {
			fail("must be an address, not a prefix: write %s", p.Addr())
		} else {
			fail("%q is not an IP address", s)
		}
	case a.Zone() != "":
		fail("must not have a zone: write %s", a.WithZone(""))
	case a.Is4In6():
		fail("must be written as an IPv4 address: %s", a.Unmap())
	default:
		return a
	}
	return netip.Addr{}
}

func parsePrefix(s string, fail func(string, ...any)) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		return p
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		fail("has no prefix length: write %s for this one address", netip.PrefixFrom(a, a.BitLen()))
	} else {
		fail("%q is not a prefix such as 10.2.0.0/16 or fd10:2::/64", s)
	}
	return netip.Prefix{}
}

func parseDuration(s string, fail func(string, ...any)) time.Duration {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		fail("%q has no unit: write %ss for seconds", s, s)
	} else {
		fail("%q is not a duration such as 25s", s)
	}
	return 0
}
