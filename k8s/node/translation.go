package node

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is our nftables table, of the family inet.
const tableName = "sluice_node"

// keepPriority is before the chains that translate source addresses (100), iptables' included. A chain that accepts would
// keep none of them from translating after it. But the first translation that is decided on is final, also if it is
// from an address to the same one: that is what our chain does.
const keepPriority = 90

// Our rules use one register.
const register = 1

// What is in a TCP header, and in an IP header of each family.
const (
	tcpFlags         = 13
	synAndRst, syn   = 2 | 4, 2
	optionMSS        = 2
	source4, length4 = 12, 4
	source6, length6 = 8, 16
	headers4         = 20 + 20 // of IP and TCP without options
	headers6         = 40 + 20
)

// translation writes the table anew, in one transaction, unless it is as it was when it was written last.
func (k *Kernel) translation(s State) error {
	have, err := k.readTable()
	if len(s.Remote) == 0 {
		if err == nil && have == "" {
			return nil
		}
		k.nft.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
		k.written, k.wanted = "", ""
		return k.did(k.nft.Flush(), "delete table %s", tableName)
	}
	wanted := fmt.Sprint(s.Pods, s.Remote, s.MTU)
	if err == nil && have != "" && have == k.written && wanted == k.wanted {
		return nil
	}
	if err := k.writeTable(s); err != nil {
		return err
	}
	if k.written, err = k.readTable(); err != nil {
		return fmt.Errorf("read table %s: %w", tableName, err)
	}
	k.wanted = wanted
	return nil
}

func (k *Kernel) writeTable(s State) error {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	k.nft.AddTable(table) // so that there is one to delete
	k.nft.DelTable(table)
	k.nft.AddTable(table)
	keep := k.nft.AddChain(&nftables.Chain{
		Name: "keep-source", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(keepPriority),
	})
	clamp := k.nft.AddChain(&nftables.Chain{
		Name: "clamp-mss", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityMangle,
	})
	for _, f := range []family{
		{name: "4", nfproto: unix.NFPROTO_IPV4, kind: nftables.TypeIPAddr, source: source4, length: length4, headers: headers4},
		{name: "6", nfproto: unix.NFPROTO_IPV6, kind: nftables.TypeIP6Addr, source: source6, length: length6, headers: headers6},
	} {
		pods, remote := f.set(table, "pods", s.Pods), f.set(table, "remote", s.Remote)
		for _, set := range []*addresses{pods, remote} {
			if err := k.nft.AddSet(set.set, set.elements); err != nil {
				return fmt.Errorf("set %s: %w", set.set.Name, err)
			}
		}
		for _, way := range [][2]*addresses{{pods, remote}, {remote, pods}} {
			k.nft.AddRule(&nftables.Rule{Table: table, Chain: keep, Exprs: append(f.from(way[0], way[1]), f.load(f.source),
				&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.nfproto), RegAddrMin: register},
			)})
			if s.MTU > f.headers {
				k.nft.AddRule(&nftables.Rule{Table: table, Chain: clamp, Exprs: append(f.from(way[0], way[1]), f.clamp(s.MTU)...)})
			}
		}
	}
	return k.did(k.nft.Flush(), "write table %s: %d prefixes of other clusters", tableName, len(s.Remote))
}

// family is how rules speak of an IP version.
type family struct {
	name    string
	nfproto byte
	kind    nftables.SetDatatype
	source  uint32 // of the source address in the header; the destination's follows
	length  uint32 // of an address
	headers int    // bytes of IP and TCP
}

type addresses struct {
	set      *nftables.Set
	elements []nftables.SetElement
}

// set is those of prefixes that are of the family. No two of them may overlap.
func (f *family) set(table *nftables.Table, name string, prefixes []netip.Prefix) *addresses {
	a := &addresses{set: &nftables.Set{Table: table, Name: name + f.name, KeyType: f.kind, Interval: true}}
	for _, p := range prefixes {
		if uint32(p.Addr().BitLen()/8) != f.length {
			continue
		}
		a.elements = append(a.elements, nftables.SetElement{Key: p.Addr().AsSlice()})
		if end := after(p); end.IsValid() {
			a.elements = append(a.elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return a
}

// after is the first address behind a prefix; invalid: it is the last one there is.
func after(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last.Next()
}

func (f *family) load(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length}
}

// from chooses packets by where they are from and go to.
func (f *family) from(src, dst *addresses) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{f.nfproto}},
		f.load(f.source),
		&expr.Lookup{SourceRegister: register, SetName: src.set.Name, SetID: src.set.ID},
		f.load(f.source + f.length),
		&expr.Lookup{SourceRegister: register, SetName: dst.set.Name, SetID: dst.set.ID},
	}
}

// clamp lowers the segment size in a SYN to what fits the MTU; the kernel never raises one (net/netfilter/nft_exthdr.c).
func (f *family) clamp(mtu int) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlags, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{synAndRst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{syn}},
		&expr.Immediate{Register: register, Data: binary.BigEndian.AppendUint16(nil, uint16(mtu-f.headers))},
		&expr.Exthdr{SourceRegister: register, Type: optionMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}

// readTable is the table as text that is different whenever the table is; empty: there is none.
func (k *Kernel) readTable() (string, error) {
	tables, err := k.nft.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if i < 0 {
		return "", nil
	}
	table := tables[i]
	all := []any{table}
	chains, err := k.nft.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	for _, c := range chains {
		if c.Table.Name != tableName {
			continue
		}
		rules, err := k.nft.GetRules(table, c)
		if err != nil {
			return "", err
		}
		all = append(all, c)
		for _, r := range rules {
			all = append(all, r.Handle, r.Exprs)
		}
	}
	sets, err := k.nft.GetSets(table)
	if err != nil {
		return "", err
	}
	for _, s := range sets {
		elements, err := k.nft.GetSetElements(s)
		if err != nil {
			return "", err
		}
		all = append(all, s.Name, s.Interval, elements)
	}
	text, err := json.Marshal(all)
	return string(text), err
}
