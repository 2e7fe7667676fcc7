package xdp

import "fmt"

// AmendSite is SetState for prefixes of the site that come and go while everything else stays, as BGP makes them: it looks at
// those only, and not at 100,000 that do not. First all of add are added, then all of del deleted. They have no hop, and
// nothing else in the State in force has the same prefix. After an error the program has a part of the change, and SetState
// completes or corrects it.
func (p *Program) AmendSite(add, del []Prefix) error {
	if len(add)+len(del) == 0 {
		return nil
	}
	if err := (State{Site: add}).Validate(); err != nil {
		return fmt.Errorf("amend xdp state: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	added, gone := State{Site: add}.contents(nil, nil), State{Site: del}.contents(nil, nil)
	for _, step := range []func() error{
		func() error { return amendable(p.tables.routes4, added.routes4, gone.routes4) },
		func() error { return amendable(p.tables.routes6, added.routes6, gone.routes6) },
		func() error { return p.tables.routes4.add(added.routes4) },
		func() error { return p.tables.routes6.add(added.routes6) },
		func() error { return p.tables.routes4.removeAll(gone.routes4) },
		func() error { return p.tables.routes6.removeAll(gone.routes6) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("amend xdp state: %w", err)
		}
	}
	return nil
}

// amendable says whether prefixes may be added and deleted: there is room, and none has another meaning.
func amendable[K comparable](t *table[K, bpfRoute], add, del map[K]bpfRoute) error {
	if n := len(t.have) + len(add); n > MaxRoutes {
		return fmt.Errorf("%s: %d of at most %d", t.name, n, MaxRoutes)
	}
	for _, entries := range []map[K]bpfRoute{add, del} {
		for k, site := range entries {
			if have, ok := t.have[k]; ok && have != site {
				return fmt.Errorf("%s: %+v is not the site's alone", t.name, k)
			}
		}
	}
	return nil
}

func (t *table[K, V]) removeAll(gone map[K]V) error {
	for k := range gone {
		if err := t.remove(k); err != nil {
			return err
		}
	}
	return nil
}
