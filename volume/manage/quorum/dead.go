package quorum

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// deadClient returns a client all of whose calls fail at once with the sentence
// why. It stands where no store can be reached.
func deadClient(why error) *clientv3.Client {
	conn := deadConn{status.Error(codes.FailedPrecondition, why.Error())}
	c := clientv3.NewCtxClient(context.Background())
	c.KV = clientv3.NewKVFromKVClient(etcdserverpb.NewKVClient(conn), c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(etcdserverpb.NewLeaseClient(conn), c, 0)
	c.Watcher = clientv3.NewWatchFromWatchClient(etcdserverpb.NewWatchClient(conn), c)
	c.Cluster = clientv3.NewClusterFromClusterClient(etcdserverpb.NewClusterClient(conn), c)
	c.Maintenance = clientv3.NewMaintenanceFromMaintenanceClient(etcdserverpb.NewMaintenanceClient(conn), c)
	c.Auth = clientv3.NewAuthFromAuthClient(etcdserverpb.NewAuthClient(conn), c)
	return c
}

// errChanging is why a store has no client for the moment in which its member ends and other voters are not asked yet.
var errChanging = errors.New("the configuration store is being changed")

// Changing reports whether a call was refused, without any effect, because the store was just changing whom it
// asks, or asked a learner that had not known yet that it is one: it may be repeated.
func Changing(err error) bool {
	if rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner) {
		return true
	}
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.FailedPrecondition && st.Message() == errChanging.Error()
}

// deadConn refuses every call. FailedPrecondition is not tried again by clientv3.
type deadConn struct{ err error }

func (d deadConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return d.err }

func (d deadConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, d.err
}
