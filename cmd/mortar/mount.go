package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/client"
	"github.com/mortarfs/mortar/cmd/cli"
	"github.com/mortarfs/mortar/fuse"
	"github.com/mortarfs/mortar/volume"
)

// runMount is `mortar mount` and mount.mortar.
func runMount(ctx context.Context, args []string, s cli.Streams) int {
	p := fuse.Program{Version: version, Connect: connect, Stdout: s.Out, Stderr: s.Err, Processors: wire.AwakeProcessors}
	return p.Main(ctx, args)
}

// mounted is a volume that is closed with its mount.
type mounted struct {
	client.FS
	client *client.Client
	end    context.CancelFunc
	awake  *sync.WaitGroup // until KeepAwake has returned
}

func (m mounted) Close() error {
	m.end()
	m.awake.Wait()
	return m.client.Close()
}

// connect opens the volume that a mount asks for.
func connect(ctx context.Context, a fuse.MountArgs, log *slog.Logger) (volume.FS, error) {
	hosts := []string{a.Host.String()}
	for _, h := range a.Backups {
		hosts = append(hosts, h.String())
	}
	name, _ := os.Hostname()
	c, err := client.Open(ctx, client.Config{
		Daemons: hosts, Volume: a.Volume, Logger: log,
		Name: fmt.Sprintf("%s:%d %s", name, os.Getpid(), strings.ReplaceAll(a.Dir, " ", "_")), AttrTimeout: a.AttributeTimeout,
	})
	if err != nil {
		return nil, err
	}
	m := mounted{FS: c.FS(), client: c, awake: new(sync.WaitGroup)}
	ctx, m.end = context.WithCancel(context.Background())
	m.awake.Go(func() { wire.KeepAwake(ctx) })
	return m, nil
}
