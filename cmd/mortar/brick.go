package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/brick/server"
	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client"
	"github.com/mortarfs/mortar/cmd/cli"
	"github.com/mortarfs/mortar/dht"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// comeBack is how long clients have after a brick's restart to open again what
// they had open; files without a name that nobody claimed are then removed.
const comeBack = 30 * time.Second

// brickOptions are what the daemon tells a brick process.
type brickOptions struct {
	volume, volumeID, brick, path, listen, daemon string
	set                                           volume.SetID
	log                                           *slog.Logger
	level                                         *slog.LevelVar // of log
}

// runBrick is `mortar brick`: the process of one brick, started by the daemon.
func runBrick(ctx context.Context, args []string, s cli.Streams) int {
	var o brickOptions
	var level, logFile string
	app := program("mortar brick", "serve one brick (the daemon runs this)", s)
	app.Flags = []urfave.Flag{
		&urfave.StringFlag{Name: "volume", Required: true, Usage: "`NAME` of the volume", Destination: &o.volume},
		&urfave.StringFlag{Name: "volume-id", Required: true, Usage: "`UUID` of the volume", Destination: &o.volumeID},
		&urfave.UintFlag{Name: "set", Required: true, Usage: "number of the set"},
		&urfave.StringFlag{Name: "brick", Required: true, Usage: "`UUID` of the brick", Destination: &o.brick},
		&urfave.StringFlag{Name: "path", Required: true, Usage: "`DIR`ectory of the brick", Destination: &o.path},
		&urfave.StringFlag{Name: "listen", Value: "127.0.0.1:0", Usage: "`ADDR:PORT` to serve on", Destination: &o.listen},
		&urfave.StringFlag{Name: "daemon", Required: true, Usage: "`TARGET` of the daemon", Destination: &o.daemon},
		&urfave.UintFlag{Name: "processors", Usage: "use `N` processors at a time (default: all)"},
		&urfave.StringFlag{Name: "log-file", Usage: "log to `FILE`", Destination: &logFile},
		&urfave.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warning or error", Destination: &level},
	}
	app.Action = func(c *urfave.Context) error {
		lv, err := logLevel(level)
		if err != nil {
			return err
		}
		o.level = new(slog.LevelVar)
		o.level.Set(lv)
		out := s.Err
		if logFile != "" {
			f, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
			if err != nil {
				return err
			}
			defer f.Close()
			out = f
		}
		if n := c.Uint("processors"); n > 0 {
			runtime.GOMAXPROCS(int(n) + wire.AwakeProcessors)
		}
		o.set = volume.SetID(c.Uint("set"))
		o.log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: o.level}))
		return serveBrick(ctx, o)
	}
	return run(ctx, app, args, s)
}

// serveBrick puts a brick's stack together, server → owner → store, and serves
// it until ctx ends or the daemon wants the brick no more.
func serveBrick(ctx context.Context, o brickOptions) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	store, err := brick.Open(o.path, brick.Options{
		Logger: o.log, Reclaim: true,
		Expect:    brick.Identity{VolumeID: o.volumeID, Volume: o.volume, Set: o.set, BrickID: o.brick},
		Unhealthy: func(err error) { cancel(err) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m, err := api.FetchMap(ctx, []string{o.daemon}, o.volume)
	if err != nil {
		return err
	}
	sets := client.NewSets(o.set, "brick "+o.path, o.log)
	defer sets.Close()
	life := newLife()
	part, err := newPart(o, life, store, sets, m)
	if err != nil {
		return err
	}
	defer part.close()
	listener, err := listenBrick(o.listen)
	if err != nil {
		return err
	}
	local, err := wire.ListenLocal(o.brick)
	if err != nil {
		listener.Close()
		return fmt.Errorf("the brick's own socket: %w", err)
	}
	srv := part.serveWith(server.Config{VolumeID: o.volumeID, BrickID: o.brick, Logger: o.log})
	o.obey(srv, m)

	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer srv.Stop()
	defer cancel(nil)
	for _, l := range []net.Listener{listener, local} {
		tasks.Go(func() {
			if err := srv.Serve(l); err != nil {
				cancel(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	tasks.Go(func() { part.run(ctx) })
	tasks.Go(func() { wire.KeepAwake(ctx) })
	tasks.Go(func() {
		hello := api.BrickHello{Volume: o.volume, Brick: o.brick, PID: os.Getpid(), Port: listener.Addr().(*net.TCPAddr).Port, Life: life}
		err := api.KeepAttached(ctx, o.daemon, hello, func(m *spec.Map) {
			if err := store.NoteSeen(brick.Seen{Map: m.Version, Layout: m.Layouts[0].Version}); err != nil {
				o.log.Error("the map's version can't be noted on the brick", "version", m.Version, "error", err)
			}
			o.obey(srv, m)
			if err := part.update(m); err != nil {
				o.log.Error("a new map of the volume can't be used; going on with the last", "version", m.Version, "error", err)
			}
		})
		if err != nil {
			o.log.Info("the daemon does not want this brick any more", "error", err)
			cancel(context.Canceled)
		}
	})
	o.log.Info("brick serves", "brick", o.path, "volume", o.volume, "set", o.set, "address", listener.Addr().String())
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// obey does what the volume's options say of a brick as a whole. The volume's other
// bricks may always use it: they need it for what concerns several sets.
func (o *brickOptions) obey(srv *server.Server, m *spec.Map) {
	options := spec.Values(m.Options)
	access := server.Access{Allow: options.String("auth.allow"), Reject: options.String("auth.reject")}
	for _, set := range m.Sets {
		for _, member := range set.Members {
			if host, _, err := net.SplitHostPort(member.Addr); err == nil {
				access.Always = append(access.Always, host)
			}
		}
	}
	srv.SetAccess(access)
	srv.SetReadOnly(options.Bool("features.read-only"))
	if level, err := logLevel(options.String("diagnostics.brick-log-level")); err == nil {
		o.level.Set(level)
	}
}

// listenBrick listens on addr, whose port clients may know from before; if that
// is taken meanwhile, on one that is free: they will hear of it.
func listenBrick(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	host, port, e := net.SplitHostPort(addr)
	if errors.Is(err, syscall.EADDRINUSE) && e == nil && port != "0" {
		return net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	return l, err
}

// part is what a brick does for its set.
type part interface {
	serveWith(conf server.Config) *server.Server // called once, first
	run(ctx context.Context)                     // until ctx ends
	update(m *spec.Map) error
	close() // after run has ended
}

// newPart returns the part of a brick that is a set of its own, or one member of several.
func newPart(o brickOptions, life string, store *brick.Store, sets *client.Sets, m *spec.Map) (part, error) {
	for _, set := range m.Sets {
		if set.ID == o.set && len(set.Members) > 1 {
			return newMember(o, life, store, sets, m)
		}
	}
	owner, err := dht.NewOwner(dht.OwnerConfig{Self: o.set, Map: m, Store: store, Peers: sets.Update(m, false), Logger: o.log})
	if err != nil {
		return nil, err
	}
	return &singleBrick{o, store, sets, owner}, nil
}

// singleBrick is a brick that is a set of its own: server → owner → store.
type singleBrick struct {
	o     brickOptions
	store *brick.Store
	sets  *client.Sets
	owner *dht.Owner
}

func (b *singleBrick) serveWith(conf server.Config) *server.Server {
	record, err := b.store.NewLockerRecord()
	if err != nil {
		b.o.log.Error("nobody knows who had locks; they are lost", "error", err)
	}
	conf.Set, conf.Lockers = b.owner, func() server.Lockers { return record }
	return server.New(conf)
}

func (b *singleBrick) run(ctx context.Context) {
	var tasks sync.WaitGroup
	tasks.Go(func() { b.owner.Run(ctx) })
	tasks.Go(func() { sweep(ctx, b.store, b.o.log) })
	tasks.Wait()
}

func (b *singleBrick) update(m *spec.Map) error { return b.owner.Update(m, b.sets.Update(m, false)) }

func (b *singleBrick) close() {}

// sweep removes files without a name that no client came back for.
func sweep(ctx context.Context, store volume.Store, log *slog.Logger) {
	select {
	case <-ctx.Done():
	case <-time.After(comeBack):
		if err := store.Orphans(ctx); err != nil {
			log.Warn("files without a name could not be removed", "error", err)
		}
	}
}
