package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// contests has two mounts do the same with the same name at the same time, again and again.
func (p *Programs) contests() {
	for n := 0; !p.stopped(); n++ {
		p.contest(fmt.Sprintf("contest-%d", n))
	}
}

// contest is about one name: made with O_EXCL, renamed over, renamed away, removed.
func (p *Programs) contest(name string) {
	text := func(i int) []byte { return fmt.Appendf(nil, "%s by %d\n", name, i) }
	winner := p.one("create", syscall.EEXIST, func(i int) error { return writeNew(p.path(i, name), text(i)) })
	if winner < 0 {
		return
	}
	if err := apart(func() { p.oneOf(name, text(winner)) }); err != nil {
		p.wrong("a client can't begin: %v", err)
	}
	sure := true
	begin := time.Now()
	for _, err := range p.both(func(i int) error {
		from := fmt.Sprintf("%s-%d", name, i)
		if err := writeNew(p.path(i, from), text(i+2)); err != nil {
			return err
		}
		return os.Rename(p.path(i, from), p.path(i, name))
	}) {
		sure = p.did("rename over", begin, err) && sure
	}
	if !sure {
		return
	}
	p.both(func(i int) error { p.oneOf(name, text(2), text(3)); return nil })
	if winner = p.one("rename away", syscall.ENOENT, func(i int) error {
		return os.Rename(p.path(i, name), p.path(i, fmt.Sprintf("%s-was-%d", name, i)))
	}); winner < 0 {
		return
	}
	was := fmt.Sprintf("%s-was-%d", name, winner)
	if p.one("unlink", syscall.ENOENT, func(i int) error { return unlink(p.path(i, was)) }) < 0 {
		return
	}
	p.both(func(i int) error { p.missing(i, name); p.missing(i, was); return nil })
}

// one has both mounts do what only one can, and returns which has, if it is known.
func (p *Programs) one(what string, loses error, f func(i int) error) int {
	begin := time.Now()
	errs := p.both(f)
	winner, winners, unknown := -1, 0, 0
	for i, err := range errs {
		switch {
		case p.did(what+", of two", begin, err, loses):
			winner = i
			winners++
		case !errors.Is(err, loses):
			unknown++
		}
	}
	if winners > 1 || winners+unknown == 0 {
		p.wrong("%s, of two: %d have won: %v", what, winners, errs)
	}
	if winners != 1 || unknown > 0 {
		return -1
	}
	return winner
}

// oneOf reads a file through each mount that takes part in contests; it must be one of these, as far as the mount reads it (see seen).
func (p *Programs) oneOf(name string, texts ...[]byte) {
	for i := range 2 {
		begin := time.Now()
		b, _, err := look(p.path(i, name))
		if !p.did("look", begin, err) {
			continue
		}
		if !slices.ContainsFunc(texts, func(t []byte) bool { return bytes.HasPrefix(t, b) }) {
			p.wrong("%s, mount %d: %.80q, want one of %q", name, i, b, texts)
		}
		if len(b) == 0 {
			p.cutOff()
		}
	}
}

// writeNew makes a file.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// newestName is one name that programs on two mounts rename over, and readers on all open.
type newestName struct {
	p  *Programs
	mu struct {
		sync.Mutex
		all map[version]span
	}
}

// version is what a writer has put there at a time.
type version struct{ writer, n int }

// span is when that was done; no end: it is not known that it was.
type span struct{ begin, end time.Time }

const replacedName = "replaced"

// text is all of a version: long enough for several requests, some of them.
func (v version) text() []byte {
	line := fmt.Appendf(nil, "version %d of %d\n", v.n, v.writer)
	return bytes.Repeat(line, 1+int(crc32.ChecksumIEEE(line)%3000))
}

// replaces begins the writers and readers of one name.
func (p *Programs) replaces() {
	r := &newestName{p: p}
	r.mu.all = map[version]span{{0, 0}: {time.Now(), time.Now()}}
	first := version{0, 0}
	if err := apart(func() {
		if err := writeNew(p.path(0, replacedName), first.text()); err != nil {
			p.wrong("%v", err)
		}
	}); err != nil {
		p.wrong("a client can't begin: %v", err)
	}
	for i := range 2 {
		p.lane(uint64(100+i), func(*rand.Rand) func() { n := 0; return func() { n++; r.replace(version{i, n}) } })
	}
	for i := range p.mounts {
		p.lane(uint64(200+i), func(*rand.Rand) func() { return (&replacedReader{r: r, mount: i}).read })
	}
}

// replace puts a version there.
func (r *newestName) replace(v version) {
	s := span{begin: time.Now()}
	r.note(v, s)
	temp := fmt.Sprintf("replaced-%d-%d", v.writer, v.n)
	err := writeNew(r.p.path(v.writer, temp), v.text())
	if err == nil {
		err = os.Rename(r.p.path(v.writer, temp), r.p.path(v.writer, replacedName))
	}
	if r.p.did("replace", s.begin, err) {
		s.end = time.Now()
		r.note(v, s)
	}
}

func (r *newestName) note(v version, s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.all[v] = s
}

// replacedReader opens the name on one mount.
type replacedReader struct {
	r     *newestName
	mount int
	spans []span // when it has looked, as far back as what it saw may be believed
}

// read opens the name and judges what it leads to.
func (x *replacedReader) read() {
	s := span{begin: time.Now()}
	b, _, err := look(x.r.p.path(x.mount, replacedName))
	s.end = time.Now()
	// What the kernel believes it was told in the course of one of these.
	for len(x.spans) > 0 && s.begin.Sub(x.spans[0].end) > believed {
		x.spans = x.spans[1:]
	}
	if x.spans = append(x.spans, s); !x.r.p.did("open what is replaced", s.begin, err) {
		return
	}
	var v version
	if _, err := fmt.Sscanf(string(b[:min(len(b), 60)]), "version %d of %d\n", &v.n, &v.writer); err != nil || !bytes.Equal(b, v.text()) {
		x.r.p.wrong("%s, mount %d: no version, or not all of it, or a mixture: %s", replacedName, x.mount, difference(b, v.text()))
		return
	}
	x.r.current(v, x.mount, s.begin, x.spans[0].begin)
}

// current makes sure that a version was not replaced, as far as its reader may know, when he opened the name; believes is
// since when his kernel may believe what it was told.
func (r *newestName) current(v version, mount int, opened, believes time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.mu.all[v]
	if !known {
		r.p.wrong("%s, mount %d: version %v was never written", replacedName, mount, v)
		return
	}
	if was.end.IsZero() || v.writer == mount && opened.Sub(was.end) < believed { // the kernel has the name from the renaming
		return
	}
	for u, s := range r.mu.all {
		if s.end.IsZero() || !s.begin.After(was.end) {
			continue
		}
		if s.end.Before(believes) || u.writer == mount && s.end.Before(opened) {
			r.p.wrong("%s, mount %d: version %v at %s, which was replaced by %v at %s", replacedName, mount, v, opened.Format(clockFormat), u, s.end.Format(clockFormat))
			return
		}
	}
}
