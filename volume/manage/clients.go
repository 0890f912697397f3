package manage

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/mortarfs/mortar/brick/wire"
	"github.com/mortarfs/mortar/volume/manage/api"
)

// clientsTimeout bounds the question to a brick who its clients are.
const clientsTimeout = 3 * time.Second

// askClients asks the volume's bricks that run, on whichever server, who their
// clients are. One that does not answer has none to show.
func (d *daemon) askClients(ctx context.Context, snap *snapshot, v *volumeRecord, out *api.VolumeStatus) {
	ctx, cancel := context.WithTimeout(ctx, clientsTimeout)
	defer cancel()
	addr, id := map[string]string{}, map[string]string{}
	for _, b := range v.Bricks {
		if h := snap.haveOf(v.ID, b.ID); h.Is == running && h.Port != 0 {
			addr[b.name()], id[b.name()] = brickAddr(snap.servers[b.Server], h), b.ID
		}
	}
	var wg sync.WaitGroup
	for i := range out.Bricks {
		b := &out.Bricks[i]
		if !b.Online || addr[b.Name] == "" {
			continue
		}
		wg.Go(func() {
			list, err := wire.FetchClients(ctx, id[b.Name], addr[b.Name])
			if err != nil {
				d.log.Warn("a brick does not tell its clients", "brick", b.Name, "error", err)
			}
			for _, c := range list {
				if c.Connected {
					b.Clients = append(b.Clients, api.Client{Addr: clientName(c), BytesRead: c.BytesRead, BytesWritten: c.BytesWritten, Version: c.Version})
				}
			}
		})
	}
	wg.Wait()
}

// clientName is how a client is shown: HOST:PORT of its connection, or, of one on
// the brick's own machine, which has no such, HOST:PID as it calls itself.
func clientName(c wire.Client) string {
	if c.Addr == "" || strings.HasPrefix(c.Addr, "@") {
		return c.Name
	}
	return c.Addr
}
