package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"time"
)

// logFile is a file to which programs on two mounts append at the same time, each a line or some at an opening.
type logFile struct {
	p    *Programs
	name string
	acks [2]map[int]bool // records of each program: whether closing said that they are there
}

const (
	logOpenings = 12 // of each program, for one file
	logRecords  = 4  // at most, of one opening
)

// record is a line that nobody else writes: of a few bytes, or more than a page.
func record(writer, n int) []byte {
	line := fmt.Appendf(nil, "%d %d ", writer, n)
	return append(append(line, bytes.Repeat([]byte{'x'}, int(crc32.ChecksumIEEE(line)%6000))...), '\n')
}

// appends has one such file after another.
func (p *Programs) appends() {
	for n := 0; !p.stopped(); n++ {
		l := &logFile{p: p, name: fmt.Sprintf("log-%d", n), acks: [2]map[int]bool{{}, {}}}
		begin := time.Now()
		made := false
		if err := apart(func() { made = p.did("make", begin, writeNew(p.path(0, l.name), nil)) }); err != nil {
			p.wrong("a client can't begin: %v", err)
		}
		if !made {
			continue
		}
		p.both(func(i int) error { l.write(i, rand.New(rand.NewPCG(p.seed, uint64(300+2*n+i)))); return nil })
		p.both(func(i int) error { l.await(i); return nil })
	}
}

// write opens the file again and again, and makes sure each time that its own records are there.
func (l *logFile) write(i int, dice *rand.Rand) {
	for range logOpenings {
		if l.p.stopped() {
			return
		}
		begin, first := time.Now(), len(l.acks[i])
		f, err := os.OpenFile(l.p.path(i, l.name), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			for range 1 + dice.IntN(logRecords) {
				n := len(l.acks[i])
				l.acks[i][n] = false
				if _, err = f.Write(record(i, n)); err != nil {
					break
				}
			}
			if err == nil && dice.IntN(3) == 0 {
				err = f.Sync()
			}
			err = errors.Join(err, f.Close())
		}
		if !l.p.did("append, of two", begin, err) {
			continue
		}
		for n := first; n < len(l.acks[i]); n++ {
			l.acks[i][n] = true
		}
		own := [2]map[int]bool{}
		own[i] = l.acks[i]
		lost, ok := l.check(i, own)
		if lost != "" {
			l.p.wrong("%s", lost)
		}
		if !ok {
			return
		}
	}
}

// await waits until a mount reads the records of both programs: it may believe the file's size for a while (see seen).
func (l *logFile) await(mount int) {
	for begin := time.Now(); ; {
		lost, ok := l.check(mount, l.acks)
		switch {
		case !ok || lost == "":
			return
		case time.Since(begin) > believed+believedSlack:
			l.p.wrong("%s", lost)
			return
		}
		l.p.cutOff()
		<-time.After(retryPause)
	}
}

// check reads the file: there are records, each whole and once. It returns what is missing of those that are acknowledged; false: it is not known.
func (l *logFile) check(mount int, acks [2]map[int]bool) (lost string, ok bool) {
	begin := time.Now()
	b, _, err := look(l.p.path(mount, l.name))
	if !l.p.did("look", begin, err) {
		return "", false
	}
	found, wrong := recordsIn(b)
	if wrong != "" {
		l.p.wrong("%s, mount %d: %s", l.name, mount, wrong)
		return "", false
	}
	for writer, all := range acks {
		for n, acked := range all {
			if acked && !found[recordKey{writer, n}] {
				lost = fmt.Sprintf("%s, mount %d: record %d of %d was acknowledged and is not there (%d bytes)", l.name, mount, n, writer, len(b))
			}
		}
	}
	return lost, true
}

type recordKey struct{ writer, n int }

// recordsIn returns the records in a file, and what else is there. The last one may end anywhere: it is just being written, or
// the file longer than the mount believes. It is not among those that are found then.
func recordsIn(b []byte) (found map[recordKey]bool, wrong string) {
	found = map[recordKey]bool{}
	for at := 0; at < len(b); {
		var k recordKey
		rest := b[at:]
		_, err := fmt.Sscanf(string(rest[:min(len(rest), 30)]), "%d %d ", &k.writer, &k.n)
		want := record(k.writer, k.n)
		switch {
		case err == nil && bytes.HasPrefix(rest, want):
		case err == nil && bytes.HasPrefix(want, rest), len(rest) < len("0 00 x"):
			return found, ""
		default:
			return found, fmt.Sprintf("at %d is no whole record (%v): %s", at, err, difference(rest, want))
		}
		if found[k] {
			return found, fmt.Sprintf("record %d of %d is there twice, at %d of %d", k.n, k.writer, at, len(b))
		}
		found[k] = true
		at += len(want)
	}
	return found, ""
}
