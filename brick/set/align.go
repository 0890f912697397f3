package set

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// align makes a member in sync equal to this one in all in which they may differ: what it had
// under way when it was last heard of, what is in flight, and extra. It returns up to
// which change the member has everything. r.makeup is held.
func (r *reign) align(ctx context.Context, b *backup, extra []Key) (covered Seq, err error) {
	ctx, cancel := context.WithTimeout(ctx, finishMax)
	defer cancel()
	ctx, unwatch := b.watched(ctx)
	defer unwatch()
	// Nothing new begins meanwhile: what is in flight has its locks, and waits for this.
	defer r.hold()()
	keys, o, covered := r.flown()
	keys = append(keys, extra...)
	t, err := r.introduce(ctx, b, o)
	if err != nil {
		return 0, err
	}
	if t.lost {
		t.keys = append(t.keys, Key{Kind: FullKey})
	}
	strays, err := r.strays(ctx, b)
	if err != nil {
		return 0, err
	}
	unnamed, err := r.unnamed(ctx, t.since)
	if err != nil {
		return 0, err
	}
	keys = slices.Concat(keys, t.keys, strays, unnamed)
	if err := r.tear(ctx, b, keys); err != nil {
		return 0, err
	}
	if err := r.level(ctx, b, keys, t.since, true); err != nil {
		return 0, err
	}
	if err := r.handOver(ctx, b, o, covered, t.requests); err != nil {
		return 0, err
	}
	if seat, _ := o.state.Seat(b.id); seat.Boot != t.boot {
		reseat := func(st spec.SetState) (spec.SetState, bool) { return With(st, b.id, t.boot), inSync(st, b.id) }
		if ok, err := r.swap(ctx, reseat, func(st spec.SetState) bool { seat, _ := st.Seat(b.id); return seat.Boot == t.boot }); !ok {
			return 0, errors.Join(err, errors.New("its place could not be noted"))
		}
	}
	return covered, nil
}

// strays returns the keys of what has no name at one of this member and another, and is not so at the other:
// no log tells of what the end of a process has left of a file that was open, or was just let go. Nothing changes meanwhile.
func (r *reign) strays(ctx context.Context, b *backup) ([]Key, error) {
	here, err := allNameless(ctx, near{m: r.s.member})
	if err != nil {
		return nil, err
	}
	there, err := allNameless(ctx, r.side(b))
	if err != nil {
		return nil, err
	}
	var keys []Key
	lacks := func(ids []volume.ID, has map[volume.ID]bool) {
		for _, id := range ids {
			if !has[id] {
				keys = append(keys, Key{Kind: ObjectKey, ID: id})
			}
		}
	}
	lacks(here, setOf(there))
	lacks(there, setOf(here))
	return keys, nil
}

// unnamed returns the keys of what has no name here, if a machine lost its power: this one, or the one that has kept
// keys since a time that is not zero. What was born since is not among those (oplog.Dirty), and no entry leads to it any more.
func (r *reign) unnamed(ctx context.Context, since volume.Time) ([]Key, error) {
	if earlier(since, r.since) == (volume.Time{}) {
		return nil, nil
	}
	ids, err := allNameless(ctx, near{m: r.s.member})
	if err != nil {
		return nil, err
	}
	list, err := r.s.member.Discards(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if id := local(d.Pointer); !id.IsZero() {
			ids = append(ids, id)
		}
	}
	var keys []Key
	for id := range setOf(ids) {
		keys = append(keys, Key{Kind: ObjectKey, ID: id})
	}
	return keys, nil
}

// watched returns ctx, ended when the member has not answered for some time: everything waits
// for an alignment, and one that hangs must not be waited for. The function that it returns must be called.
func (b *backup) watched(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	began, done := now(), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(beatEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if now()-max(began, time.Duration(b.answered.Load())) > silence {
				cancel()
			}
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// flown waits until all that is in flight is applied here, and returns its keys, how
// the set is made up, and the number of the last change. Nothing takes off meanwhile (hold).
func (r *reign) flown() (keys []Key, o orders, last Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, fl := range maps.Clone(r.mu.flying) {
		for !fl.applied && r.mu.why == "" && r.mu.flying[n] == fl {
			r.mu.local.Wait()
		}
		keys = append(keys, fl.keys...)
	}
	return keys, r.ordersLocked(), r.seq.Load()
}

// hold keeps changes from beginning until the function that it returns is called.
func (r *reign) hold() (free func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.paused++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.mu.paused--
		r.mu.local.Broadcast()
	}
}

// introduce fences a member: it obeys this primary from then on. It tells what it had under way.
func (r *reign) introduce(ctx context.Context, b *backup, o orders) (tail, error) {
	fence := r.fences.Add(1)
	w := begin(msgFence, r.epoch)
	w.text(r.s.cfg.Life)
	w.orders(o)
	answer, err := b.callBehind(ctx, fence, w.b, nil)
	if err != nil {
		return tail{}, err
	}
	b.fence.Store(fence)
	rd := &reader{b: answer}
	t := rd.tail()
	if !rd.done() {
		return tail{}, malformed("fence's answer")
	}
	return t, nil
}

// handOver gives a member that is equal to this one in its data what else it needs: the
// queues of those who are absent, who may hold locks, and the replies.
func (r *reign) handOver(ctx context.Context, b *backup, o orders, covered Seq, void []volume.Request) error {
	for _, id := range o.absent {
		if id == b.id {
			continue
		}
		keys, err := r.s.ledger.queue(id)
		if err != nil {
			return err
		}
		for i := 0; i == 0 || i < len(keys); i += queuePart {
			part := keys[i:min(i+queuePart, len(keys))]
			if err := r.sendQueue(ctx, b, id, i == 0, part); err != nil {
				return err
			}
		}
	}
	if _, err := b.call(ctx, r.s.lockers.message(r.epoch), nil); err != nil {
		return err
	}
	var forget []volume.Request
	for _, q := range void {
		if _, known, _ := r.s.replies.find(q); !known {
			forget = append(forget, q)
		}
	}
	send := func(last bool, forget []volume.Request, data []byte) error {
		return r.sendSettle(ctx, b, o, covered, last, forget, data)
	}
	const replySize = 256 // bytes, more than one takes
	data := &writer{}
	for _, t := range r.s.replies.recent() {
		data.reply(t.request, t.reply)
		if len(data.b) > volume.IOMax-replySize {
			if err := send(false, nil, data.b); err != nil {
				return err
			}
			data.b = data.b[:0]
		}
	}
	for len(forget) > 1024 {
		if err := send(false, forget[:1024], nil); err != nil {
			return err
		}
		forget = forget[1024:]
	}
	return send(true, forget, data.b)
}

// sendSettle tells a member what to forget of requests, what to remember, and with last that it is equal.
func (r *reign) sendSettle(ctx context.Context, b *backup, o orders, covered Seq, last bool, forget []volume.Request, data []byte) error {
	w := begin(msgSettle, r.epoch)
	w.orders(o)
	w.u64(covered)
	w.bool(last)
	w.requests(forget)
	_, err := b.call(ctx, w.b, data)
	return err
}

// queuePart is how many keys of a queue go into a message.
const queuePart = 256

func (r *reign) sendQueue(ctx context.Context, b *backup, id string, first bool, keys []Key) error {
	w := begin(msgQueue, r.epoch)
	w.text(id)
	w.bool(first)
	w.keys(keys)
	_, err := b.call(ctx, w.b, nil)
	return err
}
