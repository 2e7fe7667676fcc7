package netnstest

import (
	"context"

	"github.com/sluicegw/sluice/internal/child"
)

// Cmd is a program that runs in a host's namespace. It ends with its context, with its scope, and when this process
// is killed.
type Cmd = child.Cmd

// Command prepares a program, found in the PATH or among the administrator's
// commands.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := child.Command(ctx, name, args...)
	c.Namespace, c.Place = h.ns, "host "+h.name
	c.Before = h.scope.Err
	c.Started = func(c *Cmd) {
		h.scope.mu.Lock()
		defer h.scope.mu.Unlock()
		h.scope.commands = append(h.scope.commands, c)
	}
	return c
}
