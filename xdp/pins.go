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
	return filepath.Join(p.dir, fmt.Sprintf("%s%d-%s", linkPrefix, ifindex, mode))
}

const linkPrefix = "link-"

// links are the paths of all pinned links, of whatever process.
func (p *pins) links() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), linkPrefix) {
			paths = append(paths, filepath.Join(p.dir, e.Name()))
		}
	}
	return paths, nil
}

// Pinned says whether a process has left its program attached, with pins in a directory.
func Pinned(dir string) (bool, error) {
	paths, err := (&pins{dir: dir}).links()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(paths) > 0, err
}

func (m *bpfMaps) byName() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		bpfMapCounters:           m.Counters,
		bpfMapDirectPeers:        m.DirectPeers,
		bpfMapEgress:             m.Egress,
		bpfMapHopCounts:          m.HopCounts,
		bpfMapHops:               m.Hops,
		bpfMapHandshakeSources:   m.HandshakeSources,
		bpfMapLocalAddresses:     m.LocalAddresses,
		bpfMapPeerAddresses:      m.PeerAddresses,
		bpfMapPorts:              m.Ports,
		bpfMapRoutes4:            m.Routes4,
		bpfMapRoutes6:            m.Routes6,
		bpfMapSockets:            m.Sockets,
		bpfMapStrangerHandshakes: m.StrangerHandshakes,
		bpfMapUdpPorts:           m.UdpPorts,
		bpfMapVnis:               m.Vnis,
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

// remove unpins our maps and undoes what openPins did. Where an upgrade has put another process's maps and links, those
// stay, and with them directory and file system. Our links are unpinned by their attachments.
func (p *pins) remove(maps *bpfMaps) error {
	var errs []error
	for name, m := range maps.byName() {
		if err := removeMap(filepath.Join(p.dir, name), m); err != nil {
			errs = append(errs, fmt.Errorf("unpin %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, p.removeDir())...)
}

func removeMap(path string, m *ebpf.Map) error {
	pinned, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil // Load did not come so far
	}
	if err != nil {
		return err
	}
	defer pinned.Close()
	same, err := sameMap(pinned, m)
	if err != nil || !same {
		return err
	}
	return os.Remove(path)
}

func sameMap(a, b *ebpf.Map) (bool, error) {
	infoA, errA := a.Info()
	infoB, errB := b.Info()
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	idA, okA := infoA.ID()
	idB, okB := infoB.ID()
	return okA && okB && idA == idB, nil
}

// removeDir does nothing while there are pins in the directory.
func (p *pins) removeDir() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".debug") { // the kernel's own, see CONFIG_BPF_PRELOAD
			return nil
		}
	}
	if p.mounted {
		if err := unix.Unmount(p.dir, 0); err != nil {
			return fmt.Errorf("unmount bpf file system on %s: %w", p.dir, err)
		}
	}
	if p.created {
		return os.Remove(p.dir)
	}
	return nil
}
