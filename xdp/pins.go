package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const defaultBPFFS = "/sys/fs/bpf"

// pins is the directory with the pins of one gateway: its links, which keep the program attached without the process,
// and its maps, for bpftool and for whoever looks after a crash.
type pins struct {
	dir     string
	created bool // by us, and so to be removed
	mounted bool // a bpffs of our own on dir
}

// openPins makes the directory, and mounts a bpffs when it is not on one: on /sys/fs/bpf if it is below that, else on
// the directory itself.
func openPins(dir string) (*pins, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p := &pins{dir: dir}
	on, err := onBPFFS(dir)
	if err != nil {
		return nil, err
	}
	below := strings.HasPrefix(dir, defaultBPFFS+"/")
	if !on && below {
		if err := mountBPFFS(defaultBPFFS); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		p.created = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if !on && !below {
		if err := mountBPFFS(dir); err != nil {
			return nil, errors.Join(err, p.removeDir())
		}
		p.mounted = true
	}
	return p, nil
}

// onBPFFS tells of a directory that exists or is to be made.
func onBPFFS(dir string) (bool, error) {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(dir, &fs)
		if err == nil {
			return fs.Type == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return false, fmt.Errorf("stat file system of %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

func mountBPFFS(dir string) error {
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpf file system on %s: %w (mount it beforehand: mount -t bpf bpf %s)", dir, err, dir)
	}
	return nil
}

// link is the path of the link on an interface. The mode is in the name, for the kernel does not tell it.
func (p *pins) link(ifindex int, mode Mode) string {
	return filepath.Join(p.dir, fmt.Sprintf("link-%d-%s", ifindex, mode))
}

// links are the paths of all pinned links, of whatever process.
func (p *pins) links() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "link-") {
			paths = append(paths, filepath.Join(p.dir, e.Name()))
		}
	}
	return paths, nil
}

func (m *bpfMaps) byName() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpfMapCounters:         m.Counters,
		bpfMapHandshakeSources: m.HandshakeSources,
		bpfMapLocalAddresses:   m.LocalAddresses,
		bpfMapPorts:            m.Ports,
		bpfMapRoutes4:          m.Routes4,
		bpfMapRoutes6:          m.Routes6,
		bpfMapSockets:          m.Sockets,
		bpfMapUdpPorts:         m.UdpPorts,
		bpfMapVnis:             m.Vnis,
	}
}

// replaceMaps pins our maps in the place of an earlier process's, which its program, if it still runs, keeps alive.
func (p *pins) replaceMaps(maps *bpfMaps) error {
	for name, m := range maps.byName() {
		path := filepath.Join(p.dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := m.Pin(path); err != nil {
			return fmt.Errorf("pin %s: %w", name, err)
		}
	}
	return nil
}

// remove unpins the maps and undoes what openPins did. Links are unpinned by their attachments; those of interfaces that
// were not attached by us stay, and with them the directory.
func (p *pins) remove(maps *bpfMaps) error {
	var errs []error
	for name, m := range maps.byName() {
		if !m.IsPinned() {
			continue // Load did not come so far
		}
		if err := m.Unpin(); err != nil {
			errs = append(errs, fmt.Errorf("unpin %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, p.removeDir())...)
}

func (p *pins) removeDir() error {
	if p.mounted {
		if err := unix.Unmount(p.dir, 0); err != nil {
			return fmt.Errorf("unmount bpf file system on %s: %w", p.dir, err)
		}
	}
	if !p.created {
		return nil
	}
	if err := os.Remove(p.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
