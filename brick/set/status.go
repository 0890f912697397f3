package set

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mortarfs/mortar/brick/set/oplog"
	"github.com/mortarfs/mortar/volume"
)

// Status tells how the set stands, for people.
type Status struct {
	Serving bool   // by this member; otherwise little is known
	Epoch   Epoch  // the newest that this member knows
	Trouble string // why it does not serve; "": it does
	Members []MemberStatus
}

// MemberStatus tells of one member.
type MemberStatus struct {
	ID                string
	InSync, Connected bool
	State             string   // "in sync", "absent", "healing", "full heal"
	Pending           uint64   // keys in its queue
	Entries           []string // the first of them, as paths, or <gfid:ID>
	Healed, Copied    uint64   // keys and bytes, in this healing
	Started           time.Time
	ETA               time.Duration
	LastErr           string
	Repaired          []string // what the comparison of everything has mended
}

// entriesMax is how many keys of a queue are told by name.
const entriesMax = 1000

// Status tells how the set stands.
func (s *Set) Status(ctx context.Context) Status {
	st := s.follow.newest()
	out := Status{Epoch: st.Epoch}
	s.mu.Lock()
	out.Trouble = s.mu.trouble
	members := s.mu.members
	s.mu.Unlock()
	r := s.reignNow()
	if r != nil && !r.deposed() {
		r.mu.Lock()
		st, out.Serving = r.mu.state, r.hide != nil
		r.mu.Unlock()
	}
	for _, m := range members {
		one := MemberStatus{ID: m.ID, InSync: inSync(st, m.ID), Connected: m.ID == s.cfg.Self, State: "in sync"}
		if p := s.peer(m.ID); p != nil {
			one.Connected = p.Up()
		}
		if !one.InSync {
			one.State = "absent"
		}
		if out.Serving {
			r.tellOf(ctx, &one)
		}
		out.Members = append(out.Members, one)
	}
	return out
}

// tellOf tells what the primary knows of a member's healing.
func (r *reign) tellOf(ctx context.Context, m *MemberStatus) {
	r.mu.Lock()
	a, check := r.mu.absent[m.ID], r.mu.checks[m.ID]
	last, healed := r.mu.healed[m.ID]
	var job *healing
	if a != nil {
		m.LastErr = a.reason
		if a.job != nil {
			copied := *a.job
			job = &copied
		}
	}
	r.mu.Unlock()
	switch {
	case a != nil && !m.InSync:
		if q, err := r.s.ledger.queueOf(m.ID); err == nil {
			m.Pending = uint64(q.Len())
			m.Entries = r.s.describe(ctx, q)
		}
	case check != nil:
		job = &healing{healer: check, full: true}
	}
	if job == nil || job.healer == nil {
		if healed {
			m.Healed, m.Copied, m.Started, m.Repaired = uint64(last.Keys), uint64(last.Copied), last.Started, last.Repaired
		}
		return
	}
	m.State = "healing"
	if job.full {
		m.State = "full heal"
	}
	p := job.healer.Progress()
	m.Healed, m.Copied, m.Started, m.ETA, m.Repaired = uint64(p.Keys), uint64(p.Copied), p.Started, p.ETA, p.Repaired
	if m.InSync {
		m.Pending = uint64(p.Left)
	}
}

// describe names the keys of a queue for people, the first of them.
func (s *Set) describe(ctx context.Context, q *oplog.KeySet) (out []string) {
	seen := map[string]bool{}
	for _, k := range q.Keys() {
		if len(out) == entriesMax {
			break
		}
		name := s.nameKey(ctx, k)
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

func (s *Set) nameKey(ctx context.Context, k Key) string {
	switch k.Kind {
	case EntryKey:
		if dir, ok := s.pathOf(ctx, k.ID); ok {
			return filepath.Join(dir, k.Name)
		}
		return fmt.Sprintf("<gfid:%s>/%s", k.ID, k.Name)
	case ObjectKey, ExtentKey:
		if dir, ok := s.pathOf(ctx, k.ID); ok {
			return dir
		}
		return fmt.Sprintf("<gfid:%s>", k.ID)
	case FullKey:
		return "/"
	}
	return "<journal>"
}

// pathOf tells where a directory lies; false: it is none, or gone.
func (s *Set) pathOf(ctx context.Context, id volume.ID) (string, bool) {
	const depthMax = 256
	path := "/"
	for range depthMax {
		if id == volume.Root {
			return path, true
		}
		parent, name, err := s.member.Path(ctx, id)
		if err != nil {
			return "", false
		}
		path = filepath.Join("/", name, path)
		id = parent
	}
	return "", false
}

// StartHeal begins to heal what is pending or, with full, compares
// everything that every member has with what this one has, and mends what
// differs. It does not wait for the end. Only the primary does it.
func (s *Set) StartHeal(ctx context.Context, full bool) error {
	r := s.reignNow()
	if r == nil || r.deposed() {
		return notPrimary("heal")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.asked = true
	if !full {
		return nil // who is absent is healed when it asks again, which it does all the time
	}
	for id, a := range r.mu.absent {
		r.s.setFullHeal(id)
		if a.job != nil && a.job.healer != nil {
			_ = a.job.healer.keys.Add([]Key{oplog.Full})
		}
	}
	for _, b := range r.mu.backups {
		if r.mu.checks[b.id] != nil || r.mu.why != "" {
			continue
		}
		h, _ := r.healer(b, newListKeys([]Key{oplog.Full}), volume.Time{})
		h.partial, h.mutual = true, true
		to := r.side(b)
		to.unsure = func() { r.refence(b) }
		h.to, h.from.noting = to, r.s.ledger.dirtied
		r.mu.checks[b.id] = h
		r.wg.Go(func() { r.check(b, h) })
	}
	return nil
}

// refence has a member in sync fenced and made equal to which a repair was sent that it did not answer. What was
// to be repaired is locked still: a late copy must not undo what is written when it is free.
func (r *reign) refence(b *backup) {
	r.fail(b, "it did not answer to a repair")
	_, _ = b.ready(r.ctx, r, 0) // until then nothing is acknowledged, and what is in flight is made equal after the fence
}

// check compares everything that a member in sync has with what the primary has.
func (r *reign) check(b *backup, h *healer) {
	var err error
	for left := 1; left > 0 && err == nil; {
		left, err = h.Drain(r.ctx)
	}
	p := h.Progress()
	r.log.Info("everything was compared", "member", r.s.nameOf(b.id), "objects", p.Objects, "repaired", p.Repairs, "error", err)
	for _, what := range p.Repaired {
		r.log.Warn("repaired", "member", r.s.nameOf(b.id), "what", what)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.healed[b.id] = p
	delete(r.mu.checks, b.id)
}

// Outcome tells what became of a request that was sent to this set, whichever member served
// then. known: nobody can say that it was executed, if it was not. It is answered only
// by who is the primary for certain.
func (s *Set) Outcome(ctx context.Context, q volume.Request) (o Outcome, executed, known bool) {
	r := s.reignNow()
	if r == nil || r.lease(ctx, "outcome") != nil {
		return o, false, false
	}
	rep, there, covered := s.replies.find(q)
	switch {
	case there && rep.sure:
		o.Offset = rep.off
		if !rep.id.IsZero() {
			o.Attr, _ = s.member.Getattr(ctx, rep.id)
			o.Attr.ID = rep.id // though it may have gone since: that is what a repetition would find
		}
		return o, true, true
	case there:
		return o, false, false
	}
	return o, false, covered
}
