package manage

import (
	"context"
	"net"
	"slices"
	"strconv"

	"google.golang.org/grpc/peer"

	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// mapOf makes the map of a volume.
func mapOf(s *snapshot, v *volumeRecord) *spec.Map {
	m := &spec.Map{
		Version: s.mapVersion(v), Volume: v.Name, ID: v.ID, Started: v.State == api.Started,
		RootHome: v.RootHome, Layouts: v.Layouts, Options: v.options(), Daemons: daemons(s), Cluster: s.epoch.Cluster,
	}
	for _, b := range v.Bricks { // in order of set
		h := s.haveOf(v.ID, b.ID)
		member := spec.Member{Brick: b.name(), ID: b.ID, Arbiter: b.Arbiter, Life: h.Life, Ended: h.Ended}
		if h.Is == running && h.Port != 0 {
			member.Addr = brickAddr(s.servers[b.Server], h)
		}
		if n := len(m.Sets); n == 0 || m.Sets[n-1].ID != b.Set {
			m.Sets = append(m.Sets, spec.Set{ID: b.Set, State: s.stateOf(v.ID, b.Set)})
		}
		set := &m.Sets[len(m.Sets)-1]
		set.Members = append(set.Members, member)
	}
	return m
}

// brickAddr is where clients on any machine reach a brick: by the address of
// its server as the others know it. A server that was always alone has none;
// there it is what the daemon took for it.
func brickAddr(r *serverRecord, h haveRecord) string {
	if r == nil || r.Addr == "" {
		return h.Addr
	}
	return net.JoinHostPort(r.Addr, strconv.Itoa(h.Port))
}

// daemons are the addresses of the daemons of a pool of several.
func daemons(s *snapshot) []string {
	var out []string
	for _, r := range ordered(s) {
		if r.State == joined && r.Addr != "" {
			out = append(out, r.api())
		}
	}
	return out
}

// feed sends the volume's map at once and whenever it or the list of daemons
// changes, until ctx or the daemon ends, send fails, or the volume is gone. Of
// changes that come faster than send takes them only the last is sent.
func (d *daemon) feed(ctx context.Context, volume string, send func(*spec.Map) error) error {
	var sent *spec.Map
	for {
		s, changed := d.view.next()
		v := s.volume(volume)
		if v == nil && s.stale.IsZero() || sent != nil && v != nil && v.ID != sent.ID {
			return noVolume(volume)
		}
		if v != nil && (sent == nil || s.mapVersion(v) > sent.Version || !slices.Equal(daemons(s), sent.Daemons)) {
			m := mapOf(s, v)
			if err := send(m); err != nil {
				return err
			}
			sent = m
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
