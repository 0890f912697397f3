package fstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// RandomMember does random operations on two members. One of the two misses many of them,
// and is then made equal to the other with Describe, Install, Place, Release and Sums
// alone: everything that there is, names and contents, must be the same after. For
// a while before it misses none, in the order in which the other does them, and must be the same without.
func RandomMember(t *testing.T, cfg MemberConfig, ops int) {
	seed, end := seedOf(t), time.Now().Add(soakOf(t))
	for round := uint64(0); round == 0 || time.Now().Before(end); round++ {
		w := &memberWalker{
			t: t, cfg: cfg, members: [2]volume.Member{cfg.New(t), cfg.New(t)}, rng: rand.New(rand.NewPCG(seed+round, 0)),
			dirs: []volume.ID{volume.Root}, now: volume.Time{Sec: 1e9},
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		w.ctx = ctx
		err := w.walk(ops)
		cancel()
		if err != nil {
			t.Fatalf("%s=%d: %v\nthe last operations:\n%s", seedVariable, seed+round, err, strings.Join(w.log[max(0, len(w.log)-recent):], "\n"))
		}
	}
}

// memberWalker does random operations on two members.
type memberWalker struct {
	t       *testing.T
	cfg     MemberConfig
	members [2]volume.Member // the one that has everything, and the other
	rng     *rand.Rand
	ctx     context.Context
	now     volume.Time
	dirs    []volume.ID
	files   []volume.ID // all that is no directory
	misses  bool        // the other is away at times
	log     []string
}

func (w *memberWalker) walk(ops int) error {
	if err := heal(w.ctx, w.members[0], w.members[1]); err != nil { // the root's times
		return err
	}
	for i := range ops {
		w.step()
		if i%100 != 99 {
			continue
		}
		if w.misses {
			if err := heal(w.ctx, w.members[0], w.members[1]); err != nil {
				return fmt.Errorf("heal after operation %d: %w", i, err)
			}
			w.note("healed")
		}
		if err := equal(w.ctx, w.members[0], w.members[1]); err != nil {
			return fmt.Errorf("after operation %d: %w", i, err)
		}
		if w.cfg.Restart != nil && w.rng.IntN(3) == 0 {
			which := w.rng.IntN(2)
			w.note("restart %d", which)
			w.members[which] = w.cfg.Restart(w.t, w.members[which])
			w.members[which].(interface{ Hold() }).Hold()
			if err := equal(w.ctx, w.members[0], w.members[1]); err != nil {
				return fmt.Errorf("after a restart: %w", err)
			}
		}
		w.misses = i > ops/3
		gone := func(id volume.ID) bool {
			_, err := w.members[0].Getattr(w.ctx, id)
			return err != nil
		}
		w.dirs, w.files = slices.DeleteFunc(w.dirs, gone), slices.DeleteFunc(w.files, gone)
	}
	return nil
}

func (w *memberWalker) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf(format, a...))
}

// both does an operation on both members, or, in the other's absence, on one.
func (w *memberWalker) both(what string, f func(ctx context.Context, m volume.Member) error) {
	w.now.Nsec = (w.now.Nsec + 1_000_003) % 1_000_000_000
	w.now.Sec++
	keep := w.rng.IntN(3) == 0
	ctx := volume.WithFixed(w.ctx, volume.Fixed{Now: w.now, Keep: keep})
	ctx = volume.WithCred(ctx, volume.Cred{UID: uint32(w.rng.IntN(2)) * 1000, GID: 5})
	err := f(ctx, w.members[0])
	missed := w.misses && w.rng.IntN(2) == 0
	w.note("%s (keep %v): %v, missed %v", what, keep, volume.ErrnoOf(err), missed)
	if missed {
		return
	}
	if e := f(ctx, w.members[1]); !w.misses && volume.ErrnoOf(e) != volume.ErrnoOf(err) {
		w.t.Errorf("%s: %v and %v", what, err, e)
	}
}

func (w *memberWalker) dir() volume.ID { return w.dirs[w.rng.IntN(len(w.dirs))] }

func (w *memberWalker) file() volume.ID {
	if len(w.files) == 0 {
		return volume.NewID(1)
	}
	return w.files[max(0, len(w.files)-1-w.rng.IntN(30))]
}

func (w *memberWalker) aName() string { return alphabet[w.rng.IntN(7)] }

func (w *memberWalker) key() volume.Key {
	return volume.Key{Set: 1, Intent: uint64(w.rng.IntN(3)), Part: uint8(w.rng.IntN(2))}
}

// step does one random operation.
func (w *memberWalker) step() {
	d, name := w.dir(), w.aName()
	switch n := w.rng.IntN(100); {
	case n < 24:
		w.make(d, name)
	case n < 45:
		w.change()
	case n < 57:
		d2, name2 := w.dir(), w.aName()
		f := []volume.RenameFlags{0, 0, volume.RenameExchange}[w.rng.IntN(3)]
		w.both(fmt.Sprintf("rename %v %q to %v %q flags %d", d, name, d2, name2, f), func(ctx context.Context, m volume.Member) error {
			return m.Rename(ctx, d, name, d2, name2, f)
		})
	case n < 64:
		w.both(fmt.Sprintf("unlink %v %q", d, name), func(ctx context.Context, m volume.Member) error { return m.Unlink(ctx, d, name) })
	case n < 68:
		w.both(fmt.Sprintf("rmdir %v %q", d, name), func(ctx context.Context, m volume.Member) error { return m.Rmdir(ctx, d, name) })
	case n < 73:
		id := w.file()
		w.both(fmt.Sprintf("link %v as %v %q", id, d, name), func(ctx context.Context, m volume.Member) error {
			_, err := m.Link(ctx, id, d, name)
			return err
		})
	default:
		w.keep(d, name)
	}
}

// keep is an operation of a Store, or a Release.
func (w *memberWalker) keep(d volume.ID, name string) {
	k, id := w.key(), w.file()
	a, err := w.members[0].Lookup(w.ctx, d, name)
	switch n := w.rng.IntN(12); {
	case n < 4:
		p := volume.Pointer{ID: id}
		if n < 2 {
			p = volume.Pointer{ID: volume.NewID(2), Mode: syscall.S_IFREG, Held: 2}
		}
		w.both(fmt.Sprintf("put %v %q → %v instead of %v as %v", d, name, p, a.ID, k), func(ctx context.Context, m volume.Member) error {
			return m.Put(ctx, d, name, p, a.ID, k)
		})
	case n < 7 && err == nil:
		w.both(fmt.Sprintf("discard %v %q of %v as %v", d, name, a.ID, k), func(ctx context.Context, m volume.Member) error {
			return m.Discard(ctx, d, name, a.ID, k)
		})
	case n < 9:
		w.both(fmt.Sprintf("purge %v", k), func(ctx context.Context, m volume.Member) error { return m.Purge(ctx, k) })
	case n < 10:
		w.both(fmt.Sprintf("restore %v", k), func(ctx context.Context, m volume.Member) error { return m.Restore(ctx, k) })
	default:
		w.both(fmt.Sprintf("release %v", id), func(ctx context.Context, m volume.Member) error { return m.Release(ctx, id) })
	}
}

// make makes something.
func (w *memberWalker) make(d volume.ID, name string) {
	n := volume.Node{ID: volume.NewID(1), Mode: syscall.S_IFREG | uint32(w.rng.IntN(0o10000))}
	switch w.rng.IntN(8) {
	case 0, 1, 2:
		n.Mode = syscall.S_IFDIR | uint32(w.rng.IntN(0o10000))
		w.dirs = append(w.dirs, n.ID)
	case 3:
		n.Mode, n.Target = syscall.S_IFLNK|0o777, strings.Repeat("t", 1+w.rng.IntN(3000))
	case 4:
		n.Mode, n.Rdev = syscall.S_IFCHR|0o600, uint64(w.rng.IntN(3)<<8|3)
	case 5:
		c := volume.Copy{ID: n.ID, Mode: syscall.S_IFDIR | 0o755, UID: 3, Version: uint64(w.rng.IntN(9)), Home: 2}
		w.dirs = append(w.dirs, c.ID)
		w.both(fmt.Sprintf("make copy %v in %v as %q", c.ID, d, name), func(ctx context.Context, m volume.Member) error {
			return m.MakeCopy(ctx, d, name, c)
		})
		return
	}
	if n.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		w.files = append(w.files, n.ID)
	}
	w.both(fmt.Sprintf("make %s %v in %v as %q", typeName(n.Mode), n.ID, d, name), func(ctx context.Context, m volume.Member) error {
		_, err := m.Make(ctx, d, name, n)
		return err
	})
}

// change changes attributes or contents of something.
func (w *memberWalker) change() {
	id := w.file()
	if w.rng.IntN(3) == 0 {
		id = w.dir()
	}
	switch n := w.rng.IntN(10); {
	case n < 5:
		p := make([]byte, 1+w.rng.IntN(10000))
		for i := range p {
			p[i] = byte(w.rng.IntN(256))
		}
		off := int64(w.rng.IntN(1 << 17))
		w.both(fmt.Sprintf("write %d bytes at %d to %v", len(p), off, id), func(ctx context.Context, m volume.Member) error {
			f, err := m.Open(ctx, id, volume.Write)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(ctx, p, off, volume.WriteKillPriv)
			f.Close()
			return err
		})
	case n < 8:
		c := volume.Change{Mask: volume.Mask(1 << w.rng.IntN(8)), Mode: uint32(w.rng.IntN(0o10000)), UID: 4, GID: 4, Size: int64(w.rng.IntN(1 << 17)), Mtime: volume.Time{Sec: 77}}
		w.both(fmt.Sprintf("setattr %v %+v", id, c), func(ctx context.Context, m volume.Member) error {
			_, err := m.Setattr(ctx, id, c)
			return err
		})
	default:
		name, value := []string{"user.a", "trusted.b", "system.posix_acl_access", "system.posix_acl_default"}[w.rng.IntN(4)], []byte{byte(w.rng.IntN(3))}
		if strings.HasPrefix(name, "system.") {
			if w.cfg.Features.NoACL {
				return
			}
			value = named(7, uint16(w.rng.IntN(8)), 5, 7, 0)
		}
		remove := w.rng.IntN(3) == 0
		w.both(fmt.Sprintf("set %s of %v, remove %v", name, id, remove), func(ctx context.Context, m volume.Member) error {
			if remove {
				return m.Removexattr(ctx, id, name)
			}
			return m.Setxattr(ctx, id, name, value, 0)
		})
	}
}
