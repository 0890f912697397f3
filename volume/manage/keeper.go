package manage

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick"
)

// Pauses before a brick process that died is started again. The first time it
// is at once; one that was up for backoffReset begins anew: it is no loop of starts and
// deaths, and a replica set may have to wait for just this member.
const (
	backoffMin   = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
	backoffReset = 10 * time.Second
)

// reportRetry is the pause before a have record is written again that could not be.
const reportRetry = time.Second

// order says what a keeper's brick should be: its volume's want.
type order struct {
	volume *volumeRecord
	brick  brickRecord
}

// identity is what the brick's directory should say of itself.
func (o order) identity() brick.Identity {
	return brick.Identity{VolumeID: o.volume.ID, Volume: o.volume.Name, Set: o.brick.Set, BrickID: o.brick.ID}
}

// A keeper makes one brick of this server what the records want it to be, and
// writes what it is. All of it happens in its goroutine, run; other goroutines
// leave it orders and registrations.
type keeper struct {
	d   *daemon
	id  string // UUID of the brick
	log *slog.Logger

	wake chan struct{} // something below changed; holds one
	done chan struct{} // run has returned
	mu   struct {
		sync.Mutex
		order  order
		hello  *hello      // a registration not looked at yet
		pid    int         // of the process held, 0: none
		port   int         // where it serves
		online bool        // it is registered
		final  bool        // no more orders: the volume is gone
		stored *haveRecord // what the store has, where that was not known at first; nil: looked at
	}

	// Of run alone:
	proc     *process
	since    time.Time // start of proc
	logFrom  int64     // length of the log before proc
	port     int       // where the brick served last: it tries to have that port again
	have     haveRecord
	written  haveRecord // as it is in the store
	retry    time.Time  // not before then is anything tried again
	pause    time.Duration
	finished uint64 // the generation for which ready or erased is done
	foreign  bool   // proc is another daemon's: it is ended before anything else
}

func newKeeper(d *daemon, o order, have haveRecord) *keeper {
	k := &keeper{
		d: d, id: o.brick.ID,
		log:  d.log.With("volume", o.volume.Name, "brick", o.brick.name()),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		have: have, written: have, port: have.Port,
	}
	k.mu.order = o
	return k
}

func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// command replaces the keeper's order.
func (k *keeper) command(o order) {
	k.mu.Lock()
	changed := o.volume != k.mu.order.volume
	k.mu.order = o
	k.mu.Unlock()
	if changed {
		k.poke()
	}
}

// recorded tells a keeper that began with the last known configuration what
// the store has for its brick.
func (k *keeper) recorded(have haveRecord) {
	k.mu.Lock()
	k.mu.stored = &have
	k.mu.Unlock()
	k.poke()
}

// dismiss ends the keeper after it has ended its process: the volume is gone.
func (k *keeper) dismiss() {
	k.mu.Lock()
	k.mu.final = true
	k.mu.Unlock()
	k.poke()
}

// online tells the process, its port and whether it is registered.
func (k *keeper) online() (pid, port int, registered bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.pid, k.mu.port, k.mu.online
}

// run is the keeper's goroutine. It ends with ctx, and leaves the process
// alone then, or when dismissed.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	defer k.let()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		k.mu.Lock()
		o, final := k.mu.order, k.mu.final
		if k.mu.stored != nil {
			k.written, k.mu.stored = *k.mu.stored, nil
		}
		k.mu.Unlock()
		if final {
			k.end(ctx)
			return
		}
		next := k.act(ctx, o)
		next = min(next, k.report(ctx, o))
		timer.Reset(next)
		var gone chan struct{}
		if k.proc != nil {
			gone = k.proc.gone
		}
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-gone:
		case <-timer.C:
		}
	}
}

// forever is longer than any pause.
const forever = 24 * time.Hour

// act takes the next step towards the order and returns when to look again at the latest.
func (k *keeper) act(ctx context.Context, o order) time.Duration {
	if k.proc != nil && !k.proc.alive() {
		k.died(o)
	}
	v := o.volume
	if v.Generation != k.have.Generation { // a new wish: no pauses from earlier
		k.retry, k.pause = time.Time{}, 0
	}
	if k.foreign && k.proc != nil {
		if err := k.end(ctx); err != nil {
			return time.Second
		}
	}
	k.foreign = false
	want := v.want(o.brick)
	if want != running {
		k.refuseHello("The brick is not to run.")
		if k.proc != nil {
			if err := k.end(ctx); err != nil {
				k.have = k.say(v.Generation, failed, err.Error())
				return time.Second
			}
		}
		if k.finished != v.Generation || k.have.Generation != v.Generation {
			k.settle(ctx, o, want)
		}
		return forever
	}
	k.takeHello(o)
	switch {
	case k.proc == nil:
		if wait := time.Until(k.retry); wait > 0 {
			return wait
		}
		k.start(o)
		return k.d.cfg.StartTimeout
	case k.have.PID == k.proc.pid && k.have.Port != 0:
		k.have.Generation, k.have.Is, k.have.Error = v.Generation, running, ""
		return forever
	}
	left := time.Until(k.since.Add(k.d.cfg.StartTimeout))
	if left <= 0 {
		pid := k.proc.pid
		if err := k.proc.stop(ctx, time.Second); err != nil {
			return time.Second
		}
		k.let()
		k.failed(o, fmt.Sprintf("process %d did not register within %v", pid, k.d.cfg.StartTimeout))
		return 0
	}
	return left
}

// say is the have record for a condition without a process. A life goes only with its process.
func (k *keeper) say(generation uint64, is condition, text string) haveRecord {
	h := haveRecord{V: recordVersion, Generation: generation, Is: is, Error: text, Incarnation: k.have.Incarnation}
	h.Life, h.Ended = k.have.Life, k.have.Ended
	if k.proc == nil {
		h.end()
	}
	return h
}

// end notes that the process whose life is recorded has ended.
func (h *haveRecord) end() {
	if h.Life != "" {
		h.Life, h.Ended = "", h.Life
	}
}

// settle does what conditions without a process ask for.
func (k *keeper) settle(ctx context.Context, o order, want condition) {
	v, b := o.volume, o.brick
	id := o.identity()
	var err error
	missing, kept := false, false
	p := v.phaseOf(b)
	coming := b.Phase != settled
	k.d.cfg.step("brick " + string(p) + " " + string(want))
	switch {
	case p == checking && b.Replaces != "" && holds(b.Path, brick.Identity{VolumeID: v.ID, Volume: v.Name, Set: b.Set, BrickID: b.Replaces}):
		kept = true
	case p == checking:
		missing, err = k.d.checkBrickDir(b.Path, b.name(), v.Force || coming, v.Force || b.Reuse)
	case want == erased:
		err = unmakeBrickDir(b.Path, id, b.Made)
	case p == creating:
		err = makeBrickDir(ctx, b.Path, id, b.Made, v.Force || b.Reuse)
	}
	if ctx.Err() != nil {
		return // to be done by the next life
	}
	k.finished = v.Generation
	k.have = k.say(v.Generation, want, "")
	k.have.Missing, k.have.Kept = missing, kept
	if err != nil {
		k.have = k.say(v.Generation, failed, err.Error())
	}
}

// start starts the brick's process.
func (k *keeper) start(o order) {
	b := o.brick
	logFile := k.d.brickLog(o.volume.Name, b.Path)
	k.logFrom = 0
	if st, err := os.Stat(logFile); err == nil {
		k.logFrom = st.Size()
	}
	proc, err := startProcess(k.d.brickArgs(o, k.port, logFile), logFile)
	if err != nil {
		k.failed(o, fmt.Sprintf("its process can't be started: %v", err))
		return
	}
	k.proc, k.since = proc, time.Now()
	is, incarnation := k.have.Is, k.have.Incarnation+1
	if is == running { // of an earlier life of this daemon
		is = down
	}
	k.have.end()
	k.have = haveRecord{
		V: recordVersion, Generation: k.have.Generation, Is: is, Error: k.have.Error, PID: proc.pid,
		Lost: k.have.Lost, Ended: k.have.Ended, Incarnation: incarnation,
	}
	k.publish(proc.pid, 0, false)
	k.log.Info("brick process started", "pid", proc.pid)
}

// died notes that the process has ended by itself.
func (k *keeper) died(o order) {
	pid := k.proc.pid
	if time.Since(k.since) > backoffReset {
		k.pause = 0
	}
	k.let()
	text := fmt.Sprintf("process %d ended", pid)
	if line := lastLine(k.d.brickLog(o.volume.Name, o.brick.Path), k.logFrom); line != "" {
		text += ": " + line
	}
	if o.volume.want(o.brick) != running {
		k.have = k.say(k.have.Generation, k.have.Is, k.have.Error)
		return
	}
	k.failed(o, text)
}

// failed notes that the brick should run and does not. Of a generation that
// once ran this is a brick that is down; else its start failed.
func (k *keeper) failed(o order, text string) {
	is := failed
	if k.have.Generation == o.volume.Generation && (k.have.Is == running || k.have.Is == down) {
		is = down
	}
	k.have = k.say(o.volume.Generation, is, text)
	if k.have.Lost = !holds(o.brick.Path, o.identity()); k.have.Lost && o.volume.Replica > 1 {
		k.have.Error = lostText(o.volume.Name, o.brick.name())
	}
	k.retry = time.Now().Add(k.pause)
	k.log.Warn("brick process is down", "why", text, "again_in", k.pause)
	k.pause = min(max(2*k.pause, backoffMin), backoffMax)
}

// adopt takes hold of a process that an earlier daemon started.
func (k *keeper) adopt(pid int) {
	proc, err := holdProcess(pid, func() bool {
		f := findBricks(pid)
		return len(f) == 1 && f[0].brick == k.id
	})
	if err != nil {
		return
	}
	if k.proc != nil {
		k.let()
	}
	k.proc, k.since = proc, time.Now()
	k.publish(pid, k.have.Port, k.have.PID == pid && k.have.Port != 0)
	k.log.Info("brick process found running", "pid", pid)
}

// end ends the process.
func (k *keeper) end(ctx context.Context) error {
	if k.proc == nil {
		return nil
	}
	pid := k.proc.pid
	if err := k.proc.stop(ctx, k.d.cfg.StopTimeout); err != nil {
		return err
	}
	k.let()
	k.log.Info("brick process stopped", "pid", pid)
	return nil
}

// let stops holding the process.
func (k *keeper) let() {
	if k.proc != nil {
		k.proc.release()
		k.proc = nil
	}
	k.publish(0, 0, false)
}

func (k *keeper) publish(pid, port int, online bool) {
	k.mu.Lock()
	k.mu.pid, k.mu.port, k.mu.online = pid, port, online
	k.mu.Unlock()
}

// report writes what the brick is, if that is new, and returns when to try again.
func (k *keeper) report(ctx context.Context, o order) time.Duration {
	have := k.have
	if have == k.written || have.Is == absent {
		return forever
	}
	if k.d.silent() {
		return reportRetry
	}
	if err := k.d.writeHave(ctx, o, have); err != nil {
		if ctx.Err() == nil {
			k.log.Warn("the brick's state can't be recorded", "error", err)
		}
		return reportRetry
	}
	k.written = have
	return forever
}
