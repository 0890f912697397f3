package manage

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// daemon is a running daemon.
type daemon struct {
	cfg    Config
	log    *slog.Logger
	dir    *stateDir
	host   string // of --listen; "" all addresses
	port   int    // of the listener; the store has the next two
	listen string // HOST:PORT
	boot   string // UUID of this life
	addr   string // by which other servers reach this one; "" not known

	tasks      *tasks
	supervisor *supervisor
	ending     chan struct{} // closed when the daemon ends
	opened     chan struct{} // closed when store and view are there, which are set before

	store *quorum.Store
	view  *view
	fail  context.CancelCauseFunc // ends the daemon for a reason, once store and view are there
	away  absence                 // whether the store answers
	lease atomic.Int64            // the one on which the daemon's key hangs; 0: none

	mu struct {
		sync.Mutex
		trouble error           // why the store is not there; a sentence
		life    context.Context // of changes; nil before and after
		work    sync.WaitGroup  // changes under way
	}
}

var _ api.Daemon = (*daemon)(nil)

// id is the daemon's UUID.
func (d *daemon) id() string { return d.dir.id.Load().(string) }

// Run runs a daemon until ctx ends (nil) or it can't go on: then the error is a
// sentence for people. The brick processes go on without it.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	host, port, err := parseListen(cfg.Listen)
	if err != nil {
		return err
	}
	log, closeLog, err := cfg.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	dir, err := openStateDir(cfg.StateDir, cfg.PidFile, cfg.LogFile, cfg.Socket)
	if err != nil {
		return err
	}
	defer dir.close()
	d := &daemon{
		cfg: cfg, log: log, dir: dir, host: host, boot: newUUID(), tasks: newTasks(),
		ending: make(chan struct{}), opened: make(chan struct{}),
	}
	d.supervisor = newSupervisor(d)
	d.mu.trouble = api.Errorf(api.ErrGeneric, "The configuration store is being opened; try again in a moment.")
	if err := os.MkdirAll(cfg.BrickLogs, 0o750); err != nil {
		return fmt.Errorf("the directory of the bricks' logs can't be made: %w", err)
	}
	return d.serve(ctx, port)
}

// serve listens and answers, and meanwhile opens the store.
func (d *daemon) serve(ctx context.Context, port int) error {
	tcp, err := quorum.Listen(net.JoinHostPort(d.host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("the daemon can't listen on %s: %w; choose another address with --listen", describeListen(d.host, port), unwrapOp(err))
	}
	defer tcp.Close()
	d.port = tcp.Addr().(*net.TCPAddr).Port
	d.listen = describeListen(d.host, d.port)
	local, err := listenUnix(d.cfg.Socket)
	if err != nil {
		return err
	}
	defer local.Close()
	if err := d.writePid(); err != nil {
		return err
	}
	defer d.removePid()

	life := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	server := api.NewServer(d)
	defer server.Stop()
	defer close(d.ending)
	defer cancel(nil)
	for _, l := range []net.Listener{tcp, local} {
		wg.Go(func() {
			if err := server.Serve(l); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("the daemon can't listen any more: %w", err))
			}
		})
	}
	debug, err := d.serveDebug(&wg)
	if err != nil {
		return err
	}
	defer debug()
	d.log.Info("daemon started", "id", d.id(), "version", d.cfg.Version, "listen", d.listen, "socket", d.cfg.Socket, "state", d.dir.path)
	defer d.log.Info("daemon ended", "id", d.id())
	if err := d.operate(ctx); err != nil {
		d.log.Error("the daemon can't go on", "error", err)
		return err
	}
	if life.Err() == nil {
		return context.Cause(ctx)
	}
	return nil
}

// operate opens the store, supervises the bricks and lets changes happen, until
// ctx ends. Without a majority of the voters it goes on from the last known view.
func (d *daemon) operate(ctx context.Context) error {
	last := d.lastKnown()
	d.addr = d.currentAddr(last)
	cfg := quorum.Config{
		Dir: d.dir.join("etcd"), StateFile: d.dir.join("quorum.json"), ID: d.id(), Cluster: newUUID(),
		Host: d.addr, Bind: bindAddr(d.host), Port: d.port + 1, MaxRecord: recordMax, Log: d.log,
	}
	if last != nil {
		cfg.Hints = hints(last)
	}
	s, err := quorum.Open(ctx, cfg)
	if err != nil {
		d.setTrouble(err)
		return ended(ctx, err)
	}
	defer s.Close()
	d.store = s
	if last != nil && last.epoch.Cluster != s.Status().Pool.Cluster {
		last = nil // of a cluster that this daemon was in once
	}
	d.view = newView(s, last, d.log)
	life := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop(nil)
	d.fail = stop
	wg.Go(func() { d.view.follow(ctx) })
	wg.Go(func() { d.attend(ctx) })
	if err := d.firstAnswer(ctx); err != nil {
		return ended(life, err)
	}
	d.supervisor.begin(ctx)
	d.open(ctx)
	defer func() { stop(nil); d.shut() }() // changes under way give up, and are waited for
	for _, f := range []func(context.Context){
		d.supervisor.run, d.resume, d.keepLastKnown, d.hearken, d.inquire, d.member, d.control, d.raiseSeen,
	} {
		wg.Go(func() { f(ctx) })
	}
	if d.cfg.Ready != nil {
		st, _ := d.Status(ctx)
		d.cfg.Ready(st)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); life.Err() == nil && err != context.Canceled {
		d.setTrouble(err)
		return err
	}
	return nil
}

// firstAnswer waits for the store. The store of a daemon without others must
// answer; one that has others is waited for no longer than it takes to see that
// no majority is there: then the last known view is gone on with.
func (d *daemon) firstAnswer(ctx context.Context) error {
	began := time.Now()
	answers := func(s *snapshot) bool { return s.stale.IsZero() && s.alive[d.id()] == d.boot }
	for {
		alone := d.store.Status().Role == quorum.Alone
		wait, cancel := context.WithTimeout(ctx, firstLook)
		_, err := d.view.until(wait, answers)
		cancel()
		switch took := time.Since(began); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return nil
		case alone && took > storeStartTimeout:
			return fmt.Errorf("the configuration store in %s does not answer", d.dir.path)
		case alone:
			continue
		case took < poolPatience:
			if h := d.health(ctx); h.Answer >= h.Majority {
				continue
			}
		}
		d.setSilent()
		d.view.readOwn(ctx)
		d.log.Warn("the configuration store does not answer: going on with the last known configuration", "revision", d.view.now().revision)
		return nil
	}
}

// Bounds of the store's first answer.
const (
	storeStartTimeout = 30 * time.Second // of a daemon's own store
	poolPatience      = 5 * time.Second  // of a pool's, of which a majority is there
	firstLook         = 500 * time.Millisecond
)

// ended is err, or nil if it only comes from the daemon's end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// open lets requests reach the store; shut ends that and waits for changes.
func (d *daemon) open(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.trouble, d.mu.life = nil, ctx
	close(d.opened)
}

func (d *daemon) shut() {
	d.mu.Lock()
	d.mu.life = nil
	if d.mu.trouble == nil {
		d.mu.trouble = errEnding
	}
	d.mu.Unlock()
	d.mu.work.Wait()
}

// spawn runs f in a goroutine that the daemon waits for; false: it ends.
func (d *daemon) spawn(f func(life context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	life := d.mu.life
	if life == nil || life.Err() != nil {
		return false
	}
	d.mu.work.Go(func() { f(life) })
	return true
}

func (d *daemon) setTrouble(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.trouble = err
}

// trouble is why the store can't be asked, nil if it can.
func (d *daemon) trouble() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.trouble
}

// ready waits for the store, which is there soon after the daemon's start; the
// error says what is the matter otherwise.
func (d *daemon) ready(ctx context.Context) error {
	t := time.NewTimer(d.cfg.patience)
	defer t.Stop()
	select {
	case <-d.opened:
	case <-d.ending:
	case <-ctx.Done():
	case <-t.C:
	}
	if err := d.trouble(); err != nil {
		return refuse("%v", err)
	}
	return ctx.Err()
}
