package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// `kubebox node` is the first process of a node: it has to be started in a new PID namespace and a new mount namespace
// (CLONE_NEWPID, CLONE_NEWNS). It gives the node folders of its own in place of the machine's, then does what lines of
// JSON on its standard input say, one answer per line on its standard output. When the input ends, or the one who
// started it does, it ends, and as the namespace's first process takes everything in it along: the kernel ends all
// processes, containers included, and takes down all mounts. So a node leaves nothing behind that it made in there.

// request is a line of standard input.
type request struct {
	// Setup comes first, and once.
	Setup *setup `json:"setup,omitempty"`
	// Start is a program to start.
	Start *start `json:"start,omitempty"`
}

type setup struct {
	// Private are folders that the node gets its own empty ones of, in memory.
	Private []string `json:"private"`
	// Keep are folders below them that stay the machine's.
	Keep []string `json:"keep"`
	// ReadOnly are folders that the node must not write: kernel settings that are not of a namespace.
	ReadOnly []string `json:"readOnly"`
	// Folders to make.
	Folders []string `json:"folders"`
	// Files that read, within the node, what stands here instead of what the machine's say. Writing to them changes
	// nothing of the machine.
	Files map[string]string `json:"files"`
}

type start struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the program's path first
	Env  []string `json:"env"`  // beside the environment
	Log  string   `json:"log"`  // a file, appended to
}

// answer is a line of standard output: to a request, in the order of these, or, with Ended set, about a program.
type answer struct {
	Error string `json:"error,omitempty"`
	Ended string `json:"ended,omitempty"` // the program's name
	Exit  string `json:"exit,omitempty"`  // how it ended
}

type node struct {
	mu       sync.Mutex // over all below, and the output
	out      *json.Encoder
	programs map[string]*exec.Cmd
}

func runNode() int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "kubebox node: has to be the first process of a PID namespace, in a mount namespace of its own")
		return 2
	}
	n := &node{out: json.NewEncoder(os.Stdout), programs: map[string]*exec.Cmd{}}
	go n.adopt()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r request
		err := json.Unmarshal(in.Bytes(), &r)
		switch {
		case err != nil:
		case r.Setup != nil:
			err = r.Setup.do()
		case r.Start != nil:
			err = n.start(r.Start)
		default:
			err = fmt.Errorf("empty request")
		}
		n.mu.Lock()
		a := answer{}
		if err != nil {
			a.Error = err.Error()
		}
		n.out.Encode(a)
		n.mu.Unlock()
	}
	return 0
}

func (s *setup) do() error {
	// Nothing mounted here may reach the machine; below our own root mounts are shared, as kubelets want.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	kept := map[string]int{}
	for _, dir := range s.Keep {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		defer unix.Close(fd)
		kept[dir] = fd
	}
	for _, dir := range s.Private {
		if err := unix.Mount("node", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("private %s: %w", dir, err)
		}
		for keep, fd := range kept {
			if !strings.HasPrefix(keep, dir+"/") {
				continue
			}
			err := os.MkdirAll(keep, 0o755)
			if err == nil {
				err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), keep, "", unix.MS_BIND|unix.MS_REC, "")
			}
			if err != nil {
				return fmt.Errorf("keep %s: %w", keep, err)
			}
		}
	}
	for _, dir := range s.ReadOnly {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", dir, err)
		}
	}
	for _, dir := range s.Folders {
		if err := os.MkdirAll(filepath.Clean(dir), 0o755); err != nil {
			return err
		}
	}
	for path, text := range s.Files {
		if err := cover(path, text); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts within the node: %w", err)
	}
	return nil
}

// cover mounts a file of its own, which has no name any more, over another.
func cover(path, text string) error {
	f, err := os.CreateTemp("/run", "cover-")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return unix.Mount(f.Name(), path, "", unix.MS_BIND, "")
}

func (n *node) start(s *start) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.programs[s.Name] != nil {
		return fmt.Errorf("%s runs already", s.Name)
	}
	if len(s.Args) == 0 {
		return fmt.Errorf("%s: no program named", s.Name)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(s.Args[0], s.Args[1:]...)
	c.Env = append(os.Environ(), s.Env...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return err
	}
	n.programs[s.Name] = c
	go n.wait(s.Name, c)
	return nil
}

// wait tells of the end of a program.
func (n *node) wait(name string, c *exec.Cmd) {
	exit := "exit status 0"
	if err := c.Wait(); err != nil {
		exit = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.programs, name)
	n.out.Encode(answer{Ended: name, Exit: exit})
}

// adopt reaps the orphans that every first process inherits: containers' shims leave their parent on purpose. Programs
// of our own are left to their Wait.
func (n *node) adopt() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for {
			// P_ALL with WNOWAIT always names the same one, until it is reaped.
			var info unix.Siginfo
			err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			pid := childOf(&info)
			if err != nil || pid == 0 {
				break
			}
			if n.owns(pid) {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

func (n *node) owns(pid int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.programs {
		if c.Process.Pid == pid {
			return true
		}
	}
	return false
}

// childOf reads si_pid, which follows the three ints of siginfo_t and, on 64-bit machines, one of padding
// (waitid(2); zero when no child has ended).
func childOf(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Pointer(uintptr(unsafe.Pointer(info)) + 16)))
}
