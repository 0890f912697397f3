package realwork

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// object is what is compared of a file, directory or link.
type object struct {
	mode, uid, gid uint32
	size           int64
	mtime          unix.Timespec
	sum            [sha256.Size]byte // of a file's content
	target         string            // of a link
	first          string            // of hard links: the first path of the same inode
	comment        string            // user.comment
}

// scan returns all objects below dir by their path.
func scan(t *testing.T, dir string) map[string]object {
	t.Helper()
	all, first := map[string]object{}, map[uint64]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel := strings.TrimPrefix(p, dir+"/")
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		o := object{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			o.size = st.Size
			if o.sum, err = checksum(p); err != nil {
				return err
			}
			if st.Nlink > 1 {
				if first[st.Ino] == "" {
					first[st.Ino] = rel
				}
				o.first = first[st.Ino]
			}
			b := make([]byte, 100)
			if n, err := unix.Getxattr(p, "user.comment", b); err == nil {
				o.comment = string(b[:n])
			}
		case unix.S_IFLNK:
			if o.target, err = os.Readlink(p); err != nil {
				return err
			}
		}
		all[rel] = o
		return nil
	}))
	return all
}

// checksum reads a file.
func checksum(p string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(p)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if e := f.Close(); err == nil {
		err = e
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

// compare fails the test if two trees differ, and says in what.
func compare(t *testing.T, want map[string]object, dir string) {
	t.Helper()
	got := scan(t, dir)
	var complaints []string
	for p, w := range want {
		g, ok := got[p]
		if !ok {
			complaints = append(complaints, p+" is missing")
		} else if g != w {
			complaints = append(complaints, fmt.Sprintf("%s: got %+v, want %+v", p, g, w))
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			complaints = append(complaints, p+" is too much")
		}
	}
	slices.Sort(complaints)
	for i, c := range complaints {
		if i == 10 {
			t.Errorf("… and %d more", len(complaints)-i)
			break
		}
		t.Error(c)
	}
	if len(complaints) > 0 {
		t.FailNow()
	}
}

// copyTree copies a tree with cp -a, reads it back, copies the copy, and moves it.
func copyTree(t *testing.T, w *work, dir string) {
	src := w.source(t)
	want := scan(t, src)
	t.Logf("%d objects", len(want))
	tool(t, dir, nil, "cp", "-a", src, "copy")
	compare(t, want, filepath.Join(dir, "copy"))
	tool(t, dir, nil, "mv", "copy", "moved")
	compare(t, want, filepath.Join(dir, "moved"))
	tool(t, dir, nil, "diff", "-r", "--no-dereference", src, "moved")
	tool(t, dir, nil, "rm", "-r", "moved")
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 0 {
		t.Errorf("after rm -r there are %v, %v", names, err)
	}
}

// tarTree packs a tree on the mount into an archive on the mount and unpacks it.
func tarTree(t *testing.T, w *work, dir string) {
	src := w.source(t)
	want := scan(t, src)
	flags := []string{"--numeric-owner", "--format=posix"}
	if w.xattrs {
		flags = append(flags, "--xattrs")
	}
	tool(t, dir, nil, "tar", append(flags, "-cf", "one.tar", "-C", src, ".")...)
	must(t, os.Mkdir(filepath.Join(dir, "out"), 0o755))
	tool(t, dir, nil, "tar", append(flags, "-xpf", "one.tar", "-C", "out")...)
	compare(t, want, filepath.Join(dir, "out"))
	tool(t, dir, nil, "tar", append(flags, "-cf", "two.tar", "-C", "out", ".")...)
	tool(t, dir, nil, "tar", append(flags, "--compare", "-f", "two.tar", "-C", "out")...)
	names := func(archive string) []string {
		lines := strings.Split(tool(t, dir, nil, "tar", "-tf", archive), "\n")
		slices.Sort(lines)
		return lines
	}
	if !slices.Equal(names("one.tar"), names("two.tar")) {
		t.Error("the second archive holds other names than the first")
	}
}

// rsyncTree copies with rsync: the second time nothing moves, and then only
// what has changed. Times count to the nanosecond (modify-window −1).
func rsyncTree(t *testing.T, w *work, dir string) {
	src := w.source(t)
	flags := "-aH"
	if w.xattrs {
		flags += "X"
	}
	sync := func(more ...string) string {
		return tool(t, dir, nil, "rsync", append([]string{flags, "--delete", "--itemize-changes", "--modify-window=-1"}, append(more, src+"/", "copy/")...)...)
	}
	sync()
	compare(t, scan(t, src), filepath.Join(dir, "copy"))
	if out := sync(); out != "" {
		t.Errorf("the second rsync moved:\n%s", tail(out))
	}
	if out := sync("--checksum"); out != "" {
		t.Errorf("rsync with checksums moved:\n%s", tail(out))
	}
	must(t, os.WriteFile(filepath.Join(src, "odd", "file"), []byte("changed"), 0o640))
	must(t, os.Remove(filepath.Join(src, "odd", "dangling")))
	must(t, os.WriteFile(filepath.Join(src, "odd", "new"), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	out := sync()
	for _, line := range []string{"*deleting   odd/dangling", ">f+++++++++ odd/new"} {
		if !strings.Contains(out, line) {
			t.Errorf("the third rsync did not say %q:\n%s", line, tail(out))
		}
	}
	if n := strings.Count(out, "\n"); n > 6 {
		t.Errorf("the third rsync moved more than what had changed:\n%s", tail(out))
	}
	compare(t, scan(t, src), filepath.Join(dir, "copy"))
}
