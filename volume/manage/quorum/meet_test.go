package quorum

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// newcomer answers as a learner does before it has applied its own addition and after it:
// it says that it is a voter, and refuses what only voters answer.
type newcomer struct {
	etcdserverpb.UnimplementedMaintenanceServer
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedClusterServer
	mark    string
	refused atomic.Int32
}

func (n *newcomer) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 2}, Leader: 1}, nil
}

func (n *newcomer) Range(context.Context, *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	return &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte(markKey), Value: []byte(n.mark)}}}, nil
}

func (n *newcomer) MemberList(context.Context, *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	n.refused.Add(1)
	return nil, rpctypes.ErrGRPCNotSupportedForLearner
}

// TestMeetNewcomer: a server joins though a learner that takes itself for a voter is among those it is told of.
func TestMeetNewcomer(t *testing.T) {
	first := newServer(t).open()
	ctx, cancel := limit()
	defer cancel()
	if err := first.Listen(ctx, first.host); err != nil {
		t.Fatal(err)
	}
	st, _ := first.now()
	n := &newcomer{mark: encodeMark(st)}
	srv := grpc.NewServer()
	t.Cleanup(srv.Stop)
	etcdserverpb.RegisterMaintenanceServer(srv, n)
	etcdserverpb.RegisterKVServer(srv, n)
	etcdserverpb.RegisterClusterServer(srv, n)
	at := first.Status().Pool
	for range 8 { // which one is asked first depends on the addresses
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go srv.Serve(l) //nolint:errcheck // ended by Stop, which waits for it
		at.Endpoints = append(at.Endpoints, l.Addr().String())
	}
	v := newServer(t).open()
	if err := v.BecomeClient(ctx, at); err != nil {
		t.Fatal(err)
	}
	if got := v.Status().Pool.Endpoints; len(got) != 1 || got[0] != first.endpoint() {
		t.Errorf("it follows %v", got)
	}
	t.Logf("%d questions refused", n.refused.Load())
}
