package manage

import (
	"context"
	"net"

	"google.golang.org/grpc/peer"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// mapOf makes the map of a volume.
func mapOf(s *snapshot, v *volumeRecord) *spec.Map {
	m := &spec.Map{
		Version: s.version[v.ID], Volume: v.Name, ID: v.ID, Started: v.State == api.Started,
		RootHome: v.RootHome, Layouts: v.Layouts, Options: v.options(),
	}
	for _, b := range v.Bricks { // in order of set
		member := spec.Member{Brick: b.name(), ID: b.ID}
		if h := s.haveOf(v.ID, b.ID); h.Is == running && h.Port != 0 {
			member.Addr = h.Addr
		}
		m.Sets = append(m.Sets, spec.Set{ID: b.Set, Members: []spec.Member{member}})
	}
	return m
}

// feed sends the volume's map at once and whenever it changes, until ctx or
// the daemon ends, send fails, or the volume is gone. Of changes that come
// faster than send takes them only the last is sent.
func (d *daemon) feed(ctx context.Context, volume string, send func(*spec.Map) error) error {
	sent := uint64(0)
	id := ""
	for {
		s, changed := d.view.next()
		v := s.volume(volume)
		if v == nil || id != "" && v.ID != id {
			return noVolume(volume)
		}
		id = v.ID
		if version := s.version[v.ID]; version > sent {
			if err := send(mapOf(s, v)); err != nil {
				return err
			}
			sent = version
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.ending:
			return errEnding
		case <-changed:
		}
	}
}

// WatchMap implements api.Daemon.
func (d *daemon) WatchMap(ctx context.Context, volume string, send func(*spec.Map) error) error {
	if _, err := d.look(ctx); err != nil {
		return err
	}
	return d.feed(ctx, volume, send)
}

// AttachBrick implements api.Daemon. Only processes on this machine can be its
// bricks: it is refused on TCP.
func (d *daemon) AttachBrick(ctx context.Context, b api.BrickHello, send func(*spec.Map) error) error {
	if p, ok := peer.FromContext(ctx); ok {
		if _, tcp := p.Addr.(*net.TCPAddr); tcp {
			return refuse("Brick processes register on the daemon's Unix socket.")
		}
	}
	if _, err := d.look(ctx); err != nil {
		return err
	}
	if err := d.supervisor.register(ctx, b); err != nil {
		return err
	}
	return d.feed(ctx, b.Volume, send)
}
