package config

import (
	"net/netip"

	"github.com/google/go-cmp/cmp"
)

// compareAddrs lets cmp look at netip's types, which compare with ==.
func compareAddrs() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}
