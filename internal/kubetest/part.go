package kubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicegw/sluice/internal/child"
)

// pollEvery is how often something is looked at that is soon to be there.
const pollEvery = 25 * time.Millisecond

// errPortTaken is in the error of a part that could not listen.
var errPortTaken = errors.New("a port was taken")

// part is a process of the cluster.
type part struct {
	*child.Cmd
	name string
	log  string // file
}

// start starts a program of kubebox. It ends with the cluster.
func (c *Cluster) start(program string, args ...string) (*part, error) {
	p := &part{name: program, log: c.path(program + ".log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.Cmd = c.command(context.Background(), append([]string{program}, args...)...)
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		return nil, err
	}
	c.parts = append(c.parts, p)
	return p, nil
}

// command prepares a program of kubebox, where the cluster is.
func (c *Cluster) command(ctx context.Context, args ...string) *child.Cmd {
	if c.o.Host != nil {
		return c.o.Host.Command(ctx, c.box, args...)
	}
	return child.Command(ctx, c.box, args...)
}

// wait polls until ready says so; it fails with ctx, or when the part ends.
func (p *part) wait(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			err = fmt.Errorf("%s ended: %v\n%s", p.name, p.Wait(), lastLog(p.log))
			if strings.Contains(err.Error(), "address already in use") {
				err = fmt.Errorf("%w: %w", errPortTaken, err)
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w\n%s", p.name, ctx.Err(), err, lastLog(p.log))
		case <-time.After(pollEvery):
		}
	}
}

// end kills a part by its name, and reports whether it ran.
func (c *Cluster) end(name string) bool {
	for i, p := range c.parts {
		if p.name == name {
			p.Kill()
			c.parts = append(c.parts[:i], c.parts[i+1:]...)
			return true
		}
	}
	return false
}

// How much of a log is quoted: its last bytes, and no more than some lines.
const (
	quotedBytes = 8 << 10
	quotedLines = 12
)

func lastLog(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, err = f.Seek(max(0, size-quotedBytes), io.SeekStart)
		if err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return filepath.Base(path) + " ends with:\n" + string(bytes.Join(lines[max(0, len(lines)-quotedLines):], []byte("\n")))
}

// lastLogs quotes the logs of all parts, those of nodes as well.
func (c *Cluster) lastLogs() string {
	logs, _ := filepath.Glob(c.path("*.log")) // fails for a bad pattern only
	ofNodes, _ := filepath.Glob(c.path("node-*", "*.log"))
	logs = append(logs, ofNodes...)
	var all []string
	for _, log := range logs {
		all = append(all, lastLog(log))
	}
	return strings.Join(all, "\n")
}
