package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// backupMax bounds the file that a configuration is restored from, in bytes: what
// fits into a request to the daemon. A thousand volumes take about 2 MiB.
const backupMax = 40 << 20

// clusterBackup is `cluster backup FILE|- [force]`.
func clusterBackup(c *session, ctx context.Context, cmd *command, words []string) int {
	force := len(words) == 4 && words[3] == "force"
	if len(words) != 3 && !force {
		return c.misused(cmd, "")
	}
	file := words[2]
	if file == "-" && (c.opts.xml || c.opts.json) {
		return c.misused(cmd, "A backup to standard output leaves no room there for --xml or --json: name a file.")
	}
	fails := failure{text: "cluster backup: failed: "}
	if file != "-" {
		if err := mayWrite(file, force); err != nil { // before anybody is asked
			return c.fail(err, fails)
		}
	}
	d, err := c.dial(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	b, err := d.ClusterBackup(ctx)
	if err != nil {
		return c.fail(err, fails)
	}
	if file == "-" {
		if _, err := c.Out.Write(b.Data); err != nil {
			return c.fail(err, fails)
		}
		c.noteAge(ctx, d)
		return 0
	}
	if err := writeBackup(file, b.Data, force); err != nil {
		return c.fail(err, fails)
	}
	c.noteAge(ctx, d)
	text := fmt.Sprintf("cluster backup: success: %d bytes in %s\n", len(b.Data), file)
	return c.success(text, jsonBackup{file, len(b.Data)}, func(x *xml) {
		x.leaf("cliOp", "clusterBackup")
		x.leaf("output", file)
	})
}

// mayWrite refuses the name of a backup that would replace something, or has no place.
func mayWrite(file string, force bool) error {
	st, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(file)
		if _, err := os.Stat(dir); err != nil {
			return unpath(dir, err)
		}
		return nil
	case err != nil:
		return unpath(file, err)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is there already and not an ordinary file: name another", file)
	case !force:
		return fmt.Errorf("%s is there already: name another file, or add force to replace it", file)
	}
	return nil
}

// unpath words an error about file: "FILE: permission denied".
func unpath(file string, err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	return fmt.Errorf("%s: %w", file, err)
}

// writeBackup makes the file whole and durable, for its owner's eyes only, or
// leaves what was there. Without force it replaces nothing, not even what has
// come to be there meanwhile.
func writeBackup(file string, data []byte, force bool) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*.new") // mode 0600
	if err != nil {
		return unpath(dir, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return unpath(file, err)
	}
	if err := place(f.Name(), file, force); err != nil {
		return err
	}
	return syncDir(dir)
}

// place gives a file its name.
func place(from, to string, force bool) error {
	if force {
		if err := os.Rename(from, to); err != nil {
			return unpath(to, err)
		}
		return nil
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system without it: NFS, some of FUSE
		if err = os.Link(from, to); err == nil {
			err = os.Remove(from)
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there already: name another file, or add force to replace it", to)
	case err != nil:
		return unpath(to, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return unpath(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems have no such thing
		return unpath(dir, err)
	}
	return nil
}

// askRestore asks before another configuration is put in place.
func askRestore(c *session, _ context.Context, words []string) (text string, code int) {
	if len(words) != 3 {
		return "", -1
	}
	if words[2] == "-" {
		err := errors.New("the backup comes from standard input, so nobody can be asked there: add --yes")
		return "", c.fail(err, failure{text: "cluster restore: failed: "})
	}
	return fmt.Sprintf("This makes the servers, volumes and options in %s the configuration of this daemon, which must be alone and without volumes. "+
		"The other servers in it join again when they answer. Do this on one server only. Do you want to continue?", words[2]), -1
}

// clusterRestore is `cluster restore FILE|-`. Whether the file is a backup is the daemon's to say.
func clusterRestore(c *session, ctx context.Context, cmd *command, words []string) int {
	if len(words) != 3 {
		return c.misused(cmd, "")
	}
	data, err := c.readBackup(words[2])
	if err != nil {
		return c.fail(err, failure{text: "cluster restore: failed: "})
	}
	return c.replaceCluster(ctx, "restore", func(d api.Daemon) (api.Cluster, error) { return d.ClusterRestore(ctx, api.Backup{Data: data}) })
}

func (c *session) readBackup(file string) ([]byte, error) {
	var r io.Reader
	switch {
	case file != "-":
		f, err := os.Open(file)
		if err != nil {
			return nil, unpath(file, err)
		}
		defer f.Close()
		r = f
	case c.in != nil: // a prompt or question has read ahead
		r = c.in
	default:
		r, file = c.In, "standard input"
	}
	data, err := io.ReadAll(io.LimitReader(r, backupMax+1))
	switch {
	case err != nil:
		return nil, unpath(file, err)
	case len(data) > backupMax:
		return nil, fmt.Errorf("%s is larger than %d MiB: it is no backup of a configuration", file, backupMax>>20)
	case len(data) == 0:
		return nil, fmt.Errorf("%s is empty: it is no backup of a configuration", file)
	}
	return data, nil
}
