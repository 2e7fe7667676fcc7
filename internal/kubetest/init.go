package kubetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluicegw/sluice/internal/child"
	"github.com/sluicegw/sluice/internal/netnstest"
)

// nodeInit is a running `kubebox node`: the first process of a node's PID and
// mount namespaces. When it ends, all that runs or is mounted in there goes.
// The types are those of tools/kubebox/node.go, which is another module.
type nodeInit struct {
	cmd     *child.Cmd
	in      io.WriteCloser
	answers chan initAnswer
	ended   chan initAnswer // programs that ended by themselves; the last ones, when nobody looks
}

type initRequest struct {
	Setup *initSetup `json:"setup,omitempty"`
	Start *initStart `json:"start,omitempty"`
}

type initSetup struct {
	Private  []string          `json:"private"`
	Keep     []string          `json:"keep"`
	ReadOnly []string          `json:"readOnly"`
	Folders  []string          `json:"folders"`
	Files    map[string]string `json:"files"`
}

type initStart struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Log  string   `json:"log"`
}

type initAnswer struct {
	Error string `json:"error"`
	Ended string `json:"ended"`
	Exit  string `json:"exit"`
}

func startInit(host *netnstest.Host, box, log string) (*nodeInit, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := host.Command(context.Background(), box, "node")
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, outOfNode, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	cmd.Stdout = outOfNode
	err = cmd.Start()
	outOfNode.Close() // the node has its own
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	n := &nodeInit{cmd: cmd, in: in, answers: make(chan initAnswer), ended: make(chan initAnswer, 8)}
	go n.read(out)
	return n, nil
}

func (n *nodeInit) read(out *os.File) {
	defer out.Close()
	defer close(n.answers)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var a initAnswer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			a = initAnswer{Error: fmt.Sprintf("unreadable answer %q: %v", lines.Text(), err)}
		}
		if a.Ended == "" {
			n.answers <- a
			continue
		}
		select {
		case n.ended <- a:
		default:
		}
	}
}

// ask sends a request and waits for its answer.
func (n *nodeInit) ask(r initRequest) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := n.in.Write(append(text, '\n')); err != nil {
		return err
	}
	a, ok := <-n.answers
	switch {
	case !ok:
		return fmt.Errorf("the node's first process ended: %v", n.cmd.Wait())
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}

// close ends the node. The kernel kills everything in it before the first
// process is gone.
func (n *nodeInit) close() {
	n.cmd.Kill()
	n.in.Close() // may be closed already, by Wait
	for range n.answers {
	}
}
