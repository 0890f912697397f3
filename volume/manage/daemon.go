package manage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// daemon is a running daemon.
type daemon struct {
	cfg    Config
	log    *slog.Logger
	dir    *stateDir
	host   string // of --listen; "" all addresses
	listen string // HOST:PORT

	tasks      *tasks
	supervisor *supervisor
	ending     chan struct{} // closed when the daemon ends
	opened     chan struct{} // closed when store and view are there, which are set before

	store *store
	view  *view

	mu struct {
		sync.Mutex
		trouble error           // why the store is not there; a sentence
		life    context.Context // of changes; nil before and after
		work    sync.WaitGroup  // changes under way
	}
}

var _ api.Daemon = (*daemon)(nil)

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
		cfg: cfg, log: log, dir: dir, host: host, tasks: newTasks(),
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
	tcp, err := net.Listen("tcp", net.JoinHostPort(d.host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("the daemon can't listen on %s: %w; choose another address with --listen", describeListen(d.host, port), unwrapOp(err))
	}
	defer tcp.Close()
	d.listen = describeListen(d.host, tcp.Addr().(*net.TCPAddr).Port)
	local, err := listenUnix(d.cfg.Socket)
	if err != nil {
		return err
	}
	defer local.Close()
	if err := d.writePid(); err != nil {
		return err
	}
	defer d.removePid()

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
	d.log.Info("daemon started", "id", d.dir.id, "version", d.cfg.Version, "listen", d.listen, "socket", d.cfg.Socket, "state", d.dir.path)
	defer d.log.Info("daemon ended", "id", d.dir.id)
	if err := d.operate(ctx); err != nil {
		d.log.Error("the daemon can't go on", "error", err)
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// operate opens the store, supervises the bricks and lets changes happen, until ctx ends.
func (d *daemon) operate(ctx context.Context) error {
	// While there are no peers the URL under which they would reach the store is a placeholder.
	s, err := openStore(ctx, d.dir.join("etcd"), peering{name: d.dir.id, self: "http://localhost:1"}, d.log)
	if err != nil {
		d.setTrouble(err)
		return ended(ctx, err)
	}
	defer s.close()
	start, cancel := context.WithTimeout(ctx, storeStartTimeout)
	defer cancel()
	d.store = s
	if d.view, err = openView(start, s.client, d.log); err != nil {
		return ended(ctx, fmt.Errorf("the configuration in %s can't be read: %w", d.dir.path, err))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { d.view.follow(ctx) })
	if err := d.enroll(start); err != nil {
		return ended(ctx, err)
	}
	d.supervisor.begin(ctx)
	d.open(ctx)
	defer func() { stop(); d.shut() }() // changes under way give up, and are waited for
	wg.Go(func() { d.supervisor.run(ctx) })
	wg.Go(func() { d.resume(ctx) })
	if d.cfg.Ready != nil {
		st, _ := d.Status(ctx)
		d.cfg.Ready(st)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.failed:
		err := fmt.Errorf("the configuration store in %s failed: %w", d.dir.path, s.trap.err())
		d.setTrouble(err)
		return err
	}
}

// ended is err, or nil if it only comes from the daemon's end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// enroll writes this daemon's own record. A store that knows servers but not
// this one is another's, copied here.
func (d *daemon) enroll(ctx context.Context) error {
	snap := d.view.now()
	if len(snap.servers) > 0 && snap.servers[d.dir.id] == nil {
		return fmt.Errorf("the configuration in %s is another server's: its identity file and its store do not belong together", d.dir.path)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	r := &serverRecord{V: recordVersion, ID: d.dir.id, Host: name, Listen: d.listen, Release: d.cfg.Version}
	if old := snap.servers[d.dir.id]; old != nil && *old == *r {
		return nil
	}
	_, err = d.commit(ctx, "enroll", nil, clientv3.OpPut(serverKey(d.dir.id), encode(r)))
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

// listenUnix listens on a Unix socket for root only. What an earlier daemon
// left there is removed; one that answers is another's.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another daemon answers on the socket %s; name another with --socket", path)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there already and not a socket; name another with --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("the socket of an earlier daemon can't be removed: %w", err)
		}
	}
	// Made under another name and renamed, so that it is never open to others.
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, unwrapOp(err))
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("the daemon can't listen on %s: %w", path, err)
	}
	return &unixListener{l, path}, nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	net.Listener
	path string
}

func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if err == nil { // the first time
		os.Remove(l.path)
	}
	return err
}

// unwrapOp leaves out what a net.OpError repeats.
func unwrapOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

func (d *daemon) writePid() error {
	if d.cfg.PidFile == "" {
		return nil
	}
	if err := os.WriteFile(d.cfg.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("the pid file can't be written: %w", err)
	}
	return nil
}

func (d *daemon) removePid() {
	if d.cfg.PidFile != "" {
		os.Remove(d.cfg.PidFile)
	}
}
