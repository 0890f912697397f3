// Package client puts a client's stack together: from a volume's map, as the
// daemons publish it, to one volume.FS. It is the one place that knows all
// layers of a client:
//
//	Open → FS:  behind → distribute → one remote a set ⇢ wire
//
// A brick process takes the lower half of it, Sets, to reach the other sets of
// its volume. What changes with a newer map (addresses, options, sets) is
// applied to the running stack; the stack goes on with the last map while no
// daemon answers.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mortarfs/mortar/client/behind"
	"github.com/mortarfs/mortar/dht"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// Config says which volume to open.
type Config struct {
	Daemons []string // targets of api.Dial: any of them knows the volume's map
	Volume  string   // its name
	Name    string   // who we are, for the bricks' lists of clients

	// AttrTimeout is how long who uses the volume believes attributes himself
	// (a mount's attribute-timeout). A fraction of it goes to ours. 0: strict, and
	// no write is kept back.
	AttrTimeout time.Duration
	Logger      *slog.Logger
}

// believeMax bounds how much later than it must a client sees what another did
// to a directory.
const believeMax = 250 * time.Millisecond

// Client is an open volume.
type Client struct {
	fs     *dht.Distribute
	behind *behind.FS
	sets   *Sets
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Open asks a daemon for the volume's map and returns the volume, ready for
// use: its bricks are being connected to, and requests wait for that as long as
// network.timeout allows. It fails if no daemon answers, the volume does not
// exist or it is not started.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := api.FetchMap(ctx, cfg.Daemons, cfg.Volume)
	if err != nil {
		return nil, err
	}
	if !m.Started {
		return nil, fmt.Errorf("volume %s is not started; start it with: mortar volume start %s", cfg.Volume, cfg.Volume)
	}
	sets := NewSets(0, cfg.Name, cfg.Logger)
	fs := dht.New(dht.Config{Map: m, Sets: sets.Update(m, cfg.writeBehind(m)), Logger: cfg.Logger, Believe: min(cfg.AttrTimeout/4, believeMax)})
	follow, cancel := context.WithCancel(context.Background())
	c := &Client{fs: fs, behind: behind.New(fs), sets: sets, cancel: cancel}
	c.behind.SetEnabled(cfg.writeBehind(m))
	c.done.Go(func() { c.follow(follow, cfg) })
	return c, nil
}

// follow applies newer maps until ctx ends or the volume is gone.
func (c *Client) follow(ctx context.Context, cfg Config) {
	err := api.FollowMap(ctx, cfg.Daemons, cfg.Volume, func(m *spec.Map) {
		if err := c.fs.Update(m, c.sets.Update(m, cfg.writeBehind(m))); err != nil {
			cfg.Logger.Error("a new map of the volume can't be used; going on with the last", "version", m.Version, "error", err)
		}
		c.behind.SetEnabled(cfg.writeBehind(m))
	})
	var gone *api.Error
	if errors.As(err, &gone) {
		cfg.Logger.Error("no further changes of the volume will be seen", "error", err)
	}
}

// FS is a volume as its users have it.
type FS interface {
	volume.FS
	volume.LateChanger
	volume.Finder
}

// FS returns the volume.
func (c *Client) FS() FS { return c.behind }

// writeBehind tells whether small writes may be kept back: by the option, unless the client is strict.
func (cfg *Config) writeBehind(m *spec.Map) bool {
	return cfg.AttrTimeout > 0 && spec.Values(m.Options).Bool("performance.write-behind")
}

// Close ends all connections. The FS must not be in use any more.
func (c *Client) Close() error {
	c.cancel()
	c.done.Wait()
	c.behind.Close()
	return c.sets.Close()
}
