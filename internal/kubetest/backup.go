package kubetest

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Backup is what a cluster had stored at some time.
type Backup struct{ dir string }

// Backup copies the store. The API server and the store are killed for the
// time that takes, so that the copy is of one moment.
func (c *Cluster) Backup(ctx context.Context) (*Backup, error) {
	dir, err := os.MkdirTemp(c.dir.path, "backup-")
	if err != nil {
		return nil, fmt.Errorf("back up cluster %s: %w", c.o.Name, err)
	}
	err = c.withoutStore(ctx, func() error { return os.CopyFS(dir, os.DirFS(c.path("etcd"))) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("back up cluster %s: %w", c.o.Name, err), os.RemoveAll(dir))
	}
	return &Backup{dir: dir}, nil
}

// Restore kills the API server and brings it back with what it had when the
// backup was made. Resource versions go back as well, as they do when somebody
// does this to a real cluster.
func (c *Cluster) Restore(ctx context.Context, b *Backup) error {
	err := c.withoutStore(ctx, func() error {
		if err := os.RemoveAll(c.path("etcd")); err != nil {
			return err
		}
		return os.CopyFS(c.path("etcd"), os.DirFS(b.dir))
	})
	if err != nil {
		return fmt.Errorf("restore cluster %s: %w", c.o.Name, err)
	}
	return nil
}

func (c *Cluster) withoutStore(ctx context.Context, f func() error) error {
	c.end("kube-apiserver")
	c.end("etcd")
	if err := f(); err != nil {
		return err
	}
	// etcd insists that nobody else may read its folder.
	if err := os.Chmod(c.path("etcd"), 0o700); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}
