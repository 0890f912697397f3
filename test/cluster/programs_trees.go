package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// source is a small tree on a local disk: dir holds it, archive is a tar of it, listing what find says of it.
type source struct{ dir, archive, listing string }

// listingOf prints what must be the same of each file; of directories not the size. It fails if find does, not just if sort does.
const listingOf = `LC_ALL=C; cd "$1" && all=$(find . \( -type d -printf '%P %y %m %T@\n' \) -o -printf '%P %y %m %s %T@ %n %l\n') && echo "$all" | sort`

// programDeadline bounds one program, a mount's time-outs and a busy machine included.
const programDeadline = 3 * time.Minute

func newSource(t testing.TB) source {
	t.Helper()
	dice := rand.New(rand.NewPCG(1, 1)) // the same each time
	s := source{dir: t.TempDir()}
	s.archive = s.dir + ".tar"
	var err error
	for d := range 4 {
		dir := filepath.Join(s.dir, fmt.Sprint("dir", d), "below")
		err = errors.Join(err, os.MkdirAll(dir, 0o755))
		for f := range 10 {
			path := filepath.Join(dir, fmt.Sprint("file", f))
			err = errors.Join(err, os.WriteFile(path, bytes.Repeat([]byte(path+"\n"), dice.IntN(400)*(f%3)), 0o600|os.FileMode(dice.IntN(0o100))))
			err = errors.Join(err, os.Chtimes(path, time.Time{}, time.Unix(1_500_000_000+dice.Int64N(1e8), dice.Int64N(1e9))))
		}
		err = errors.Join(err, os.Symlink("file1", filepath.Join(dir, "symlink")), os.Link(filepath.Join(dir, "file2"), filepath.Join(dir, "link")))
		err = errors.Join(err, os.Chtimes(dir, time.Time{}, time.Unix(1_400_000_000+int64(d), 0)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(s.archive) })
	for _, words := range [][]string{{"tar", "-C", s.dir, "--format=posix", "-cf", s.archive, "."}, {"sh", "-c", listingOf, "sh", s.dir}} {
		out, err := exec.Command(words[0], words[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.listing = string(out)
	}
	return s
}

// trees copies the tree and unpacks it, compares it through another mount, and removes it through a third.
func (p *Programs) trees(s source) {
	for n := 0; !p.stopped(); n++ {
		tree := fmt.Sprintf("tree-%d", n)
		at := p.path(n, tree)
		var made bool
		if n%2 == 0 {
			_, made = p.run("cp -a", "cp", "-a", s.dir, at)
		} else if _, made = p.run("mkdir", "mkdir", at); made {
			_, made = p.run("tar -x", "tar", "-C", at, "-xpf", s.archive)
		}
		if made && !p.stopped() {
			p.compare(n, tree, s)
			p.compare(n+1, tree, s)
		}
		if n%4 == 2 && made && !p.stopped() { // once more, over what is there
			if _, made = p.run("cp -a", "cp", "-a", s.dir+"/.", at); made {
				p.compare(n, tree, s)
			}
		}
		if _, gone := p.run("rm -rf", "rm", "-rf", p.path(n+2, tree)); gone {
			p.run("look for what is gone, rm -rf", "sh", "-c", `[ ! -e "$1" ]`, "sh", p.path(n+2, tree))
		}
	}
}

// compare compares contents, and then types, modes, times, link counts and targets, when the mount's kernel believes no older ones.
func (p *Programs) compare(mount int, tree string, s source) {
	begin := time.Now()
	at := p.path(mount, tree)
	if _, same := p.run("diff -r", "diff", "-r", "--no-dereference", s.dir, at); !same {
		return
	}
	for {
		is, ok := p.run("find", "sh", "-c", listingOf, "sh", at)
		if !ok || is == s.listing {
			return
		}
		if time.Since(begin) > believed+believedSlack {
			p.wrong("%s, mount %d: find differs: %s", tree, mount%len(p.mounts), difference([]byte(is), []byte(s.listing)))
			return
		}
		<-time.After(retryPause)
	}
}

// run runs a program; it must succeed, unless it was told EIO.
func (p *Programs) run(what, name string, args ...string) (string, bool) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), programDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", dirVariable+"="+p.mounts[0]+"/")
	cmd.WaitDelay = 10 * time.Second
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		said := strings.TrimSpace(out.String()[:min(out.Len(), 500)] + "\n" + errs.String())
		err = fmt.Errorf("%s: %w", said, err)
		// rm takes what it can't look at for a file, and what it can't list for empty (coreutils 9.1), and says no more than what comes of that.
		rmSays := name == "rm" && (strings.HasSuffix(said, ": Is a directory") || strings.HasSuffix(said, ": Directory not empty"))
		if strings.Contains(said, "Input/output error") || rmSays {
			err = fmt.Errorf("%s: %w", said, syscall.EIO)
		}
	}
	return out.String(), p.note(what, time.Since(begin), err)
}
