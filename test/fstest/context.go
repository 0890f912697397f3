package fstest

import (
	"context"
	"slices"
	"syscall"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// soon is how long a call with an ended context may take: it is generous, for
// the machine may be busy, but well below any layer's own bound.
const soon = 5 * time.Second

var contextTests = []test{
	{"cancelled", func(e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		withEnded(e, ctx, syscall.EINTR)
	}},
	{"deadline over", func(e *env) {
		ctx, cancel := context.WithDeadline(e.ctx, time.Unix(1, 0))
		defer cancel()
		withEnded(e, ctx, syscall.ETIMEDOUT, syscall.EINTR)
	}},
}

// withEnded calls everything with a context that is over. A call may succeed
// all the same, or fail with errnos; afterwards the file system is well.
func withEnded(e *env, ctx context.Context, errnos ...syscall.Errno) {
	id := e.file(e.dir, "f", "content")
	e.ok(e.fs.Setxattr(e.ctx, id, "user.a", []byte("v"), 0))
	e.mkdir(e.dir, "d")
	l := e.symlink(e.dir, "l", "t")
	file := e.open(id, volume.Read|volume.Write)
	begin := time.Now()
	check := func(what string, err error) {
		e.Helper()
		if err != nil && !slices.Contains(errnos, volume.ErrnoOf(err)) {
			e.Errorf("%s: %v, want %v", what, err, names(errnos))
		}
		if took := time.Since(begin); took > soon {
			e.Errorf("%s took %v", what, took)
		}
		begin = time.Now()
	}
	endedReads(e, ctx, check, id, l)
	endedHandle(ctx, check, file)

	_, err := e.fs.Setattr(ctx, id, volume.Change{Mask: volume.SetMode, Mode: 0o600})
	check("setattr", err)
	_, err = e.fs.Make(ctx, e.dir, "new", volume.Node{Mode: syscall.S_IFDIR | 0o755})
	check("mkdir", err)
	f, _, err := e.fs.Create(ctx, e.dir, "new2", regular, volume.Write)
	check("create", err)
	if err == nil {
		e.ok(f.Close())
	}
	f, err = e.fs.Open(ctx, id, volume.Read)
	check("open", err)
	if err == nil {
		e.ok(f.Close())
	}
	_, err = e.fs.Link(ctx, id, e.dir, "new3")
	check("link", err)
	check("unlink", e.fs.Unlink(ctx, e.dir, "l"))
	check("rmdir", e.fs.Rmdir(ctx, e.dir, "d"))
	check("rename", e.fs.Rename(ctx, e.dir, "f", e.dir, "new4", 0))
	check("setxattr", e.fs.Setxattr(ctx, id, "user.b", []byte("v"), 0))
	check("removexattr", e.fs.Removexattr(ctx, id, "user.a"))
	check("sync", e.fs.Sync(ctx, e.dir))

	// Whatever happened happened wholly.
	a := e.attr(id)
	if n := len(e.namesOf(id)); int(a.Nlink) != n {
		e.Errorf("nlink %d with %d names", a.Nlink, n)
	}
	e.file(e.dir, "after", "")
}

// endedReads calls what changes nothing.
func endedReads(e *env, ctx context.Context, check func(string, error), id, link volume.ID) {
	_, err := e.fs.Lookup(ctx, e.dir, "f")
	check("lookup", err)
	_, err = e.fs.Getattr(ctx, id)
	check("getattr", err)
	_, err = e.fs.Readlink(ctx, link)
	check("readlink", err)
	_, _, err = e.fs.ReadDir(ctx, e.dir, 0, 10, true)
	check("readdir", err)
	_, err = e.fs.Getxattr(ctx, id, "user.a")
	check("getxattr", err)
	_, err = e.fs.Listxattr(ctx, id)
	check("listxattr", err)
	_, err = e.fs.Statfs(ctx)
	check("statfs", err)
}

// endedHandle calls everything of an open file.
func endedHandle(ctx context.Context, check func(string, error), f volume.File) {
	_, err := f.ReadAt(ctx, make([]byte, 10), 0)
	check("read", err)
	_, err = f.WriteAt(ctx, []byte("x"), 0, 0)
	check("write", err)
	_, err = f.Append(ctx, []byte("x"), 0)
	check("append", err)
	_, err = f.Getattr(ctx)
	check("getattr of a handle", err)
	_, err = f.Setattr(ctx, volume.Change{Mask: volume.SetSize, Size: 5})
	check("setattr of a handle", err)
	_, err = f.Seek(ctx, 0, volume.SeekData)
	check("seek", err)
	check("fsync", f.Sync(ctx, false))
	check("flush", f.Flush(ctx))
}

// namesOf returns the names in the test's directory that lead to id.
func (e *env) namesOf(id volume.ID) []string {
	var all []string
	for _, x := range e.list(e.dir, 100, false) {
		if x.ID == id {
			all = append(all, x.Name)
		}
	}
	return all
}
