package explore

import (
	"time"

	"github.com/mortarfs/mortar/brick/set"
)

// calls: every primary asks every other member for what is due.
func (r *rules) calls(w *world, try try) bool {
	for q := range r.members {
		if w.m[q].reigns == 0 {
			continue
		}
		for to := range r.members {
			if to == q {
				continue
			}
			for _, req := range r.requests(w, q, to) {
				if req.kind == 0 {
					continue
				}
				what := [...]string{"", "asks whether it is alive", "sends the change", "makes equal"}[req.kind]
				ok := try(step{what, q, to, 0}, func(w *world) (bool, string) {
					if a, ok := r.hear(w, req); ok {
						r.receive(w, a)
						return true, ""
					}
					return false, ""
				}) && try(step{what + ", the answer is lost", q, to, 0}, func(w *world) (bool, string) {
					_, ok := r.hear(w, req)
					return ok && spend(&w.left.losses), ""
				}) && try(step{what + ", the answer is late", q, to, 0}, func(w *world) (bool, string) {
					a, ok := r.hear(w, req)
					return ok && delay(w, a), ""
				}) && try(step{what + ", which is late", q, to, 0}, func(w *world) (bool, string) {
					return delay(w, req), ""
				})
				if !ok {
					return false
				}
			}
		}
	}
	return true
}

func spend(budget *uint8) bool {
	if *budget == 0 {
		return false
	}
	*budget--
	return true
}

// delay puts a message among those that are late.
func delay(w *world, m message) bool {
	for i := range w.messages {
		if w.messages[i].kind == 0 {
			w.messages[i] = m
			return spend(&w.left.delays)
		}
	}
	return false
}

// requests returns what q has to say to another member.
func (r *rules) requests(w *world, q, to int) [2]message {
	m := &w.m[q]
	length := uint8(m.contents.len())
	ask := message{kind: alive, from: int8(q), to: int8(to), epoch: m.reigns, life: m.life, has: length}
	tell := ask
	switch {
	case m.has[to] == length:
		return [2]message{ask}
	case m.open != 0 && m.has[to] == length-1 && r.needed(w, q).has(to):
		tell.kind, tell.request = appending, m.open
	case m.open != 0 && !r.needed(w, q).has(to):
		return [2]message{ask} // its object is locked: it is made equal later
	default:
		tell.kind, tell.contents, tell.replies = equalize, m.contents, m.replies
	}
	return [2]message{ask, tell}
}

// deliveries of late messages.
func (r *rules) deliveries(w *world, try try) bool {
	for i := range w.messages {
		late := w.messages[i]
		if late.kind == 0 {
			continue
		}
		from, to := int(late.from), int(late.to)
		if late.answer {
			if !try(step{"comes at last: the answer", from, to, 0}, func(w *world) (bool, string) {
				w.messages[i] = message{}
				r.receive(w, late)
				return true, ""
			}) {
				return false
			}
			continue
		}
		handle := func(again bool) func(w *world) (bool, string) {
			return func(w *world) (bool, string) {
				if !again {
					w.messages[i] = message{}
				} else if !spend(&w.left.twice) {
					return false, ""
				}
				if a, ok := r.hear(w, late); ok {
					r.receive(w, a)
				}
				return true, ""
			}
		}
		what := "comes at last: " + [...]string{"", "alive?", "the change", "be equal!"}[late.kind]
		if !try(step{what, from, to, 0}, handle(false)) || !try(step{what + ", not for the last time", from, to, 0}, handle(true)) {
			return false
		}
	}
	return true
}

// hear lets a member handle a request; false if it refuses.
func (r *rules) hear(w *world, req message) (message, bool) {
	i := int(req.to)
	m := &w.m[i]
	tried := uint8(0)
	if s, waiting := swapOf(w, i); waiting && s.next.epoch > m.reigns && !r.broken.is("obeys while it tries") {
		tried = s.next.epoch
	}
	switch set.Accepts(uint64(m.known), name(m.knownPrimary), uint64(tried), uint64(req.epoch), name(req.from)) {
	case set.Refuse:
		if !r.broken.is("older epochs obeyed") || m.reigns != 0 {
			return message{}, false
		}
	case set.Adopt:
		if s, waiting := swapOf(w, i); waiting {
			s.waiting = false
		}
		stepDown(m, req.epoch, req.from)
	}
	p := set.Promise{Until: now + time.Duration(m.promise)*set.Obey/time.Duration(r.lease)}
	p = p.Give(set.Process{Member: name(req.from), Epoch: uint64(req.epoch)}, now)
	m.promised = process{req.from, req.life, req.epoch}
	m.promise = uint8((p.Until - now) * time.Duration(r.lease) / set.Obey)
	if r.broken.is("promise counted from the sending") {
		m.promise = r.lease - req.age
	}
	a := message{kind: req.kind, answer: true, from: req.to, to: req.from, epoch: req.epoch, life: req.life, age: req.age, boot: m.boot, has: none}
	if r.carryOut(m, req) {
		a.has = req.has
	}
	return a, true
}

// carryOut does what is asked; false: it was not asked for a change, or can't be done.
//
// Messages of an epoch are numbered, and one that comes after a later one of
// its epoch has been carried out is not: it is over.
func (r *rules) carryOut(m *member, req message) bool {
	if req.kind == alive {
		return false
	}
	if req.has < m.done && !r.broken.is("late heals carried out") {
		return false
	}
	if req.kind == equalize {
		old := m.replies
		m.contents, m.replies, m.done = req.contents, req.replies, req.has
		for q := 1; q <= 3 && r.broken.is("replies of what was undone kept"); q++ {
			if m.replies.of(q) == 0 {
				m.replies = m.replies.with(q, old.of(q))
			}
		}
		return true
	}
	length := uint8(m.contents.len())
	switch {
	case length+1 == req.has, r.broken.is("changes applied twice") && length >= req.has && length < 3:
		m.contents = m.contents.with(int(req.request))
		m.replies = m.replies.with(int(req.request), m.contents.len())
		m.done = req.has
		return true
	case length >= req.has && m.contents.at(int(req.has)-1) == int(req.request):
		return true
	}
	return false
}

// receive lets a primary take an answer.
func (r *rules) receive(w *world, a message) {
	m := &w.m[a.to]
	if m.life != a.life || m.reigns != a.epoch {
		return
	}
	left := r.lease - min(a.age, r.lease)
	if r.broken.is("tenure counted from the answer") {
		left = r.lease
	}
	m.tenure[a.from] = max(m.tenure[a.from], left)
	if m.told[a.from] != a.boot {
		m.told[a.from], m.has[a.from] = a.boot, none
	}
	if a.has != none && (m.has[a.from] == none || a.has > m.has[a.from]) {
		m.has[a.from] = a.has
	}
	if !m.ready {
		m.ready = r.whole(w, int(a.to))
	}
}
