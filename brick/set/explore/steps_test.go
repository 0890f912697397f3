package explore

import "github.com/mortarfs/mortar/brick/set"

// emit takes a successor, how it came about, and what is wrong with it, ""
// if nothing. False: no more are wanted.
type emit func(w *world, s step, violation string) bool

// begin returns the first state.
func (r *rules) begin() world {
	w := world{left: r.budget}
	w.store, w.rev = seats{primary: -1}, 1
	for i := range r.members {
		w.store.in = w.store.in.with(i)
		w.m[i] = member{boot: 1, life: 1, knownPrimary: -1, young: r.lease}
	}
	if r.fresh {
		return w
	}
	w.store.epoch, w.store.primary = 1, 0
	for i := range r.members {
		w.store.boot[i] = 1
		m := &w.m[i]
		m.known, m.knownPrimary, m.young = 1, 0, 0
		if i > 0 {
			m.promised, m.promise = process{0, 1, 1}, r.lease
			w.m[0].tenure[i], w.m[0].told[i] = r.lease, 1
		}
	}
	a := &w.m[0]
	a.reigned, a.reigns, a.state, a.rev, a.ready = 1, 1, w.store, w.rev, true
	w.reign[1] = process{0, 1, 1}
	return w
}

// try makes a copy of w, lets do change it, and hands it on unless do returns
// false. do may return what is wrong.
type try func(s step, do func(w *world) (bool, string)) bool

// steps hands on all successors of w.
func (r *rules) steps(w *world, e emit) {
	attempt := func(s step, do func(w *world) (bool, string)) bool {
		next := *w
		ok, wrong := do(&next)
		if !ok {
			return true
		}
		r.forget(&next)
		if wrong == "" {
			wrong = r.check(w, &next)
		}
		r.same(&next)
		return e(&next, s, wrong)
	}
	for _, kind := range []func(*world, try) bool{r.clients, r.calls, r.deliveries, r.decisions, r.settling, r.seating, r.disasters} {
		if !kind(w, attempt) {
			return
		}
	}
}

// clients' steps, at each primary.
func (r *rules) clients(w *world, try try) bool {
	for q := range r.members {
		m := &w.m[q]
		if m.reigns == 0 || !m.ready && !r.broken.is("serves before the others are equal") {
			continue
		}
		for req := 1; req <= int(w.left.requests); req++ {
			if m.open != 0 || m.contents.len() == 3 || req > int(w.asked)+1 {
				continue
			}
			if m.replies.of(req) == 0 && !try(step{"executes", q, -1, req}, func(w *world) (bool, string) { return r.execute(w, q, req) }) {
				return false
			}
			if m.replies.of(req) != 0 && !try(step{"answers from memory", q, -1, req}, func(w *world) (bool, string) { return r.repeat(w, q, req) }) {
				return false
			}
		}
		if !try(step{"acknowledges", q, -1, int(m.open)}, func(w *world) (bool, string) { return r.finish(w, q) }) ||
			!try(step{"answers a read", q, -1, 0}, func(w *world) (bool, string) { return r.read(w, q) }) {
			return false
		}
	}
	return true
}

func (r *rules) execute(w *world, q, req int) (bool, string) {
	m := &w.m[q]
	if !r.noVacancy(w, q) {
		return false, ""
	}
	m.contents = m.contents.with(req)
	m.replies = m.replies.with(req, m.contents.len())
	m.open = uint8(req)
	w.asked = max(w.asked, uint8(req))
	return true, ""
}

// finish ends the request that is open, when all have it.
func (r *rules) finish(w *world, q int) (bool, string) {
	m := &w.m[q]
	if m.open == 0 {
		return false, ""
	}
	if r.broken.is("acknowledges before who failed is taken out") {
		for i := range r.members {
			if r.needed(w, q).has(i) && m.has[i] != uint8(m.contents.len()) {
				m.skipping = m.skipping.with(i)
			}
		}
	}
	if !r.whole(w, q) || !r.mayServe(w, q) && !r.broken.is("lease not looked at") {
		return false, ""
	}
	m.open = 0
	return true, r.tell(w, q)
}

// read answers a read; repeat a request that was executed before.
func (r *rules) read(w *world, q int) (bool, string) {
	m := &w.m[q]
	if m.open != 0 && !r.broken.is("reads do not wait for changes") {
		return false, ""
	}
	if !r.mayServe(w, q) && !r.broken.is("lease not looked at") {
		return false, ""
	}
	return true, r.tell(w, q)
}

func (r *rules) repeat(w *world, q, req int) (bool, string) {
	place := w.m[q].replies.of(req)
	if w.m[q].contents.len() < place || w.m[q].contents.at(place-1) != req {
		return true, "(7) a reply is remembered of what the state has not"
	}
	return r.read(w, q)
}

// tell shows a client all that q has.
func (r *rules) tell(w *world, q int) string {
	c := w.m[q].contents
	if !c.startsWith(w.truth) {
		return "(3) a client is told what contradicts what was told before"
	}
	w.truth = c
	return ""
}

// decisions: members that do not reign ask Next.
func (r *rules) decisions(w *world, try try) bool {
	for i := range r.members {
		m := &w.m[i]
		if _, waiting := swapOf(w, i); waiting || m.reigns != 0 {
			continue
		}
		if r.broken.is("no new epoch after a restart") && w.store.primary == int8(i) && m.reigned == w.store.epoch {
			if !try(step{"goes on after its restart", i, -1, 0}, func(w *world) (bool, string) { return true, r.reign(w, i, w.store, w.rev) }) {
				return false
			}
		}
		v := r.next(w, i)
		if v.act != set.Promote && v.act != set.Resume || v.next.epoch > w.left.epochs {
			continue
		}
		if r.broken.is("old primary left out by the new one") && w.store.primary >= 0 && w.store.primary != int8(i) {
			v.next.in = v.next.in.without(int(w.store.primary))
		}
		if !r.swap(w, try, i, v.next, w.rev, "makes itself primary of", int(v.next.epoch)) {
			return false
		}
	}
	return true
}

// reign begins the reign of a process whose Swap has succeeded.
func (r *rules) reign(w *world, i int, s seats, rev uint8) string {
	m := &w.m[i]
	if m.known >= s.epoch && !r.broken.is("no new epoch after a restart") {
		return ""
	}
	m.known, m.knownPrimary, m.reigned, m.done = s.epoch, int8(i), s.epoch, 0
	m.reigns, m.state, m.rev, m.pending = s.epoch, s, rev, seats{}
	m.ready, m.open, m.skipping = false, 0, 0
	m.tenure, m.told = [size]uint8{}, [size]uint8{}
	m.has = [size]uint8{none, none, none}
	m.ready = r.whole(w, i)
	p := process{int8(i), m.life, s.epoch}
	if w.reign[s.epoch] != (process{}) && w.reign[s.epoch] != p {
		return "(1) an epoch has two primaries"
	}
	w.reign[s.epoch] = p
	return ""
}

// stepDown makes a member a backup that has learnt of a newer epoch.
func stepDown(m *member, epoch uint8, primary int8) {
	m.known, m.knownPrimary, m.done = epoch, primary, 0
	m.reigns, m.state, m.rev, m.pending = 0, seats{}, 0, seats{}
	m.ready, m.open, m.skipping = false, 0, 0
	m.tenure, m.told, m.has = [size]uint8{}, [size]uint8{}, [size]uint8{}
}

// disasters: time goes on, processes and machines start anew.
func (r *rules) disasters(w *world, try try) bool {
	for i := range r.members {
		if w.left.restarts > 0 && !try(step{"restarts", i, -1, 0}, func(w *world) (bool, string) { w.left.restarts--; r.restart(w, i); return true, "" }) {
			return false
		}
		for _, lost := range []bool{false, true} {
			what := "reboots, nothing is lost"
			if lost {
				what = "reboots and loses what was not synced"
			}
			if w.left.reboots > 0 && !try(step{what, i, -1, 0}, func(w *world) (bool, string) { w.left.reboots--; return true, r.reboot(w, i, lost) }) {
				return false
			}
		}
	}
	return try(step{"a tick passes", -1, -1, 0}, func(w *world) (bool, string) { r.tick(w); return true, "" })
}

func (r *rules) restart(w *world, i int) {
	m := &w.m[i]
	n := member{
		known: m.known, knownPrimary: m.knownPrimary, reigned: m.reigned, contents: m.contents, replies: m.replies, done: m.done, boot: m.boot,
		life: m.life + 1, restarted: m.known != 0, young: r.lease,
	}
	if r.broken.is("epoch not on the disk") {
		n.known, n.knownPrimary, n.done = 0, -1, 0
	}
	*m = n
	for j := range w.swaps {
		if int(w.swaps[j].from) == i {
			w.swaps[j].waiting = false
		}
	}
}

func (r *rules) reboot(w *world, i int, lost bool) string {
	r.restart(w, i)
	w.m[i].boot++
	if lost {
		w.m[i].contents, w.m[i].replies, w.m[i].done = 0, 0, 0
	}
	return ""
}

func (r *rules) tick(w *world) {
	for i := range r.members {
		m := &w.m[i]
		m.young = max(m.young, 1) - 1
		m.promise = max(m.promise, 1) - 1
		for j := range m.tenure {
			m.tenure[j] = max(m.tenure[j], 1) - 1
		}
	}
	for i := range w.messages {
		if w.messages[i].kind != 0 {
			w.messages[i].age = min(w.messages[i].age+1, r.lease)
		}
	}
}
