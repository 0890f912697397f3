package manage

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/mortarfs/mortar/brick"
	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

func TestJudgeProbe(t *testing.T) {
	s := newSnapshot(5)
	s.epoch = &epochRecord{V: 1, Cluster: "here", Incarnation: 1}
	s.servers["a"] = &serverRecord{ID: "a"}
	s.servers["half"] = &serverRecord{ID: "half", State: joining}
	s.servers["going"] = &serverRecord{ID: "going", State: leaving}
	full := s.clone()
	for i := range serversMax {
		full.servers[fmt.Sprint(i)] = &serverRecord{}
	}
	for _, test := range []struct {
		s    *snapshot
		id   api.Identity
		note int
		want string // of the refusal, a part; "" none
	}{
		{s, api.Identity{ID: "me", Records: 1}, api.NoteLocalhost, ""},
		{s, api.Identity{ID: "a", Records: 1, Cluster: "here", Servers: 3}, api.NotePeer, ""},
		{s, api.Identity{ID: "a", Records: 1, Cluster: "new", Servers: 1}, 0, ""}, // its state was lost, its identity not
		{s, api.Identity{ID: "new", Records: 1, Cluster: "there", Servers: 1}, 0, ""},
		{s, api.Identity{ID: "half", Records: 1, Cluster: "there", Servers: 1}, 0, ""},
		{s, api.Identity{ID: "half", Records: 1, Cluster: "here", Servers: 3, Volumes: 2}, 0, ""},
		{s, api.Identity{ID: "gone", Records: 1, Cluster: "here", Servers: 3}, 0, ""}, // has not learnt that it was detached
		{s, api.Identity{ID: "new", Records: 1, Cluster: "there", Servers: 2}, 0, "h is either already part of another cluster"},
		{s, api.Identity{ID: "new", Records: 1, Cluster: "there", Servers: 1, Volumes: 1}, 0, "it has volumes (1)"},
		{s, api.Identity{ID: "new", Records: 2, Release: "9.1"}, 0, "h writes records of version 2 and this cluster of version 1"},
		{s, api.Identity{ID: "going", Records: 1, Cluster: "here"}, 0, "h is being detached"},
		{full, api.Identity{ID: "new", Records: 1, Servers: 1}, 0, "the most that it can have"},
	} {
		v := judgeProbe(test.s, "me", "h", test.id)
		if v.note.Number != test.note || v.done != (test.note != 0) || test.want == "" != (v.refusal == "") || !strings.Contains(v.refusal, test.want) {
			t.Errorf("%+v: %+v", test.id, v)
		}
	}
}

// What bricks have seen raises maps and layouts above it, and nothing else does.
func TestRaised(t *testing.T) {
	at := func(base uint64, layout volume.LayoutVersion) *snapshot {
		s := newSnapshot(30)
		s.epoch = &epochRecord{V: 1, Cluster: "c", Incarnation: 1, MapBase: base}
		s.volumes["v"] = &volumeRecord{V: 1, Name: "v", ID: "V", Bricks: []brickRecord{{ID: "b1"}, {ID: "b2"}}, Layouts: []spec.Layout{{Version: layout}}}
		s.changed["V"] = 20
		return s
	}
	for _, test := range []struct {
		base   uint64
		layout volume.LayoutVersion
		seen   map[string]brick.Seen
		want   string // the new base and layout
	}{
		{0, 1, nil, "-"},
		{0, 1, map[string]brick.Seen{"b1": {Map: 20, Layout: 1}, "b2": {Map: 3}}, "-"},
		{0, 1, map[string]brick.Seen{"b1": {Map: 21, Layout: 1}, "b2": {Map: 25, Layout: 1}}, "base 5"},
		{7, 3, map[string]brick.Seen{"b1": {Map: 40, Layout: 3}}, "base 20"},
		{0, 1, map[string]brick.Seen{"b1": {Map: 5, Layout: 2}, "b2": {Map: 5, Layout: 4}}, "layout 5"},
		{0, 1, map[string]brick.Seen{"other": {Map: 99, Layout: 9}}, "-"},
	} {
		conditions, ops := raised(at(test.base, test.layout), test.seen)
		got := "-"
		for _, op := range ops {
			e, v := &epochRecord{}, &volumeRecord{}
			if string(op.KeyBytes()) == epochKey && decode(op.ValueBytes(), "epoch", e) == nil {
				got = fmt.Sprint("base ", e.MapBase)
			} else if decode(op.ValueBytes(), "volume", v) == nil {
				got = fmt.Sprint("layout ", v.Layouts[0].Version)
			}
		}
		if got != test.want || len(conditions) != len(ops) {
			t.Errorf("%+v: %s, want %s", test, got, test.want)
		}
	}
}

// A daemon of another major version is refused, with both versions.
func TestOtherMajorRefused(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	first := p.sites[0]
	first.status, first.stop = first.run(first.config())
	first.conn = first.dial()
	l, err := net.Listen("tcp", p.sites[1].addr+":24100")
	if err != nil {
		t.Fatal(err)
	}
	newer := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var request []byte
		if err := s.RecvMsg(&request); err != nil {
			return err
		}
		if err := s.SendHeader(metadata.Pairs("mortar-api", "2.7")); err != nil {
			return err
		}
		return s.SendMsg([]byte(`{"colour": "green"}`))
	}))
	done := make(chan error, 1)
	go func() { done <- newer.Serve(l) }()
	defer func() { newer.Stop(); <-done }()
	_, err = first.conn.PeerProbe(t.Context(), api.PeerRequest{Host: p.sites[1].addr})
	want := fmt.Sprintf("%s: The daemon speaks version 2.7 of the management protocol, this side %d.%d: use the same release on both.", p.sites[1].addr, api.Major, api.Minor)
	refused(t, err, api.ErrGeneric, want)
	if list := must[[]api.Peer](t)(first.conn.PoolList(t.Context())); len(list) != 1 {
		t.Errorf("the pool is %+v", list)
	}
}

// rawCodec passes messages as they are.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "mortar-json" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
