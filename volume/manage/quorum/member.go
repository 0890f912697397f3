package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// Sizes and times of the store. A volume of ten bricks takes some 10 KiB.
const (
	storeQuota         = 256 << 20 // bytes of etcd's database; beyond it changes are refused
	txnOps             = 16 << 10  // operations of a transaction: a volume's making has some for each brick
	storeSegment       = 4 << 20   // bytes of a log segment; two are allocated at once
	storeSnapshotCount = 1000      // log entries kept in memory before a snapshot
	storeCatchUp       = 200       // and after one
	storeHistory       = "1000"    // revisions kept
	storeTick          = 100       // ms: heartbeat
	storeElection      = 1000      // ms without heartbeat before a voter stands for election
	learnersMax        = 4         // members that catch up at the same time: of 1 voter to 5
	briefTick          = 5         // ms: the same of a member that runs by itself, for a moment
	briefElection      = 50        // ms
	startTimeout       = 30 * time.Second
	moveTimeout        = time.Second // for handing on the leadership at the end
	stopTimeout        = 20 * time.Second
)

// placeholder is the URL of a member that has no listener.
const placeholder = "http://localhost:1"

// peerURL is where the member on host answers members.
func peerURL(host string, port int) string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// PeerURL is the URL under which the member of a server answers other members:
// what AddLearner and Plan take. port is the server's Config.Port.
func PeerURL(host string, port int) string { return peerURL(host, port) }

// Endpoint is where the member with this peer URL answers clients, host:port;
// "" for a member without listener.
func Endpoint(peer string) string {
	u, err := url.Parse(peer)
	if err != nil || peer == placeholder {
		return ""
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), strconv.Itoa(port+1))
}

// setSegmentSize shrinks etcd's log segments, whose size is a variable of its
// package, once for the process: 64 MB of preallocation are made for other loads.
var setSegmentSize = sync.OnceFunc(func() { wal.SegmentSizeBytes = storeSegment })

// member is a running etcd within the process.
type member struct {
	etcd    *embed.Etcd
	client  *clientv3.Client // in the process
	trap    *fatalTrap
	serving *serving // nil: no listener
	joins   bool     // it has just joined: until it is ready, its own entry is a guess
}

// birth is how a member's directory comes to be; of no meaning if it has a log.
type birth struct {
	token   string // makes the IDs of members and cluster
	initial string // members: NAME=URL,…
	joins   bool   // the cluster is there already
	force   bool   // drop all other members from what the directory knows
	brief   bool   // the member runs for a moment, by itself: it elects itself at once
}

// birthAlone is how a cluster of one begins.
func birthAlone(id string, st state) birth {
	return birth{token: fmt.Sprintf("mortar/%s/%d/%s", st.Cluster, st.Incarnation, id), initial: id + "=" + placeholder}
}

func etcdConfig(id, dir, self string, b birth, maxRecord int, log *slog.Logger, trap *fatalTrap) (*embed.Config, error) {
	u, err := url.Parse(self)
	if err != nil {
		return nil, err
	}
	if maxRecord == 0 {
		maxRecord = 1 << 20
	}
	c := embed.NewConfig()
	c.Name, c.Dir = id, dir
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil // see serving
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{*u}
	c.InitialCluster, c.InitialClusterToken = b.initial, b.token
	if b.joins {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	c.ForceNewCluster = b.force
	c.TickMs, c.ElectionMs = storeTick, storeElection
	if b.brief {
		c.TickMs, c.ElectionMs = briefTick, briefElection
	}
	c.SnapshotCount, c.SnapshotCatchUpEntries = storeSnapshotCount, storeCatchUp
	c.QuotaBackendBytes = storeQuota
	c.MaxRequestBytes = uint(maxRecord) + 64<<10
	c.MaxTxnOps = txnOps
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, storeHistory
	c.PreVote, c.MaxLearners = true, learnersMax
	c.StrictReconfigCheck = false // it asks for connections 5 s old; Plan and Remove look at who answers now
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger(log, trap))
	return c, nil
}

// startMember starts etcd on the directory. It does not wait until it answers.
// etcd ends the process where it finds its files damaged or can't write them;
// here it only ends its own goroutine and closes trap.failed.
func startMember(id, dir, self string, b birth, maxRecord int, log *slog.Logger) (*member, error) {
	m := &member{trap: &fatalTrap{failed: make(chan struct{})}, joins: b.joins}
	cfg, err := etcdConfig(id, dir, self, b, maxRecord, log, m.trap)
	if err != nil {
		return nil, err
	}
	if err := checkDatabase(dir); err != nil {
		return nil, fmt.Errorf("%w: %s can't be opened: %w", ErrDamaged, dir, err)
	}
	if m.etcd, err = startEtcd(cfg, m.trap); err != nil {
		return nil, fmt.Errorf("the configuration store in %s can't be opened: %w", dir, err)
	}
	m.client = v3client.New(m.etcd.Server)
	return m, nil
}

// startEtcd calls StartEtcd, which may return, panic, or end this goroutine or
// one that it waits for, through the trap.
func startEtcd(cfg *embed.Config, trap *fatalTrap) (*embed.Etcd, error) {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done, late := make(chan result), make(chan struct{})
	go func() { // it can't be waited for where etcd waits for what has ended: the process ends then
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("%v", p)
			}
			select {
			case <-late:
				if r.etcd != nil && trap.err() == nil { // nobody wants it any more
					r.etcd.Close()
				}
			case done <- r:
			}
		}()
		r.err = errors.New("it ended by itself")
		r.etcd, r.err = embed.StartEtcd(cfg)
	}()
	defer close(late)
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	select {
	case <-trap.failed:
		return nil, trap.err()
	case <-limit.C:
		return nil, fmt.Errorf("it was not open after %v: another process may hold it", startTimeout)
	case r := <-done:
		if err := trap.err(); err != nil {
			return nil, err
		}
		return r.etcd, r.err
	}
}

// ready waits until the member answers: it has a leader and has written its name.
func (m *member) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case <-m.trap.failed:
		return fmt.Errorf("%w: %w", ErrFailed, m.trap.err())
	case <-m.etcd.Server.StopNotify():
		return fmt.Errorf("%w: it was removed", ErrNotMember)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return fmt.Errorf("the configuration store in %s did not start within %v", m.etcd.Server.Cfg.DataDir, startTimeout)
	}
}

// isReady reports whether ready would return at once.
func (m *member) isReady() bool {
	select {
	case <-m.etcd.Server.ReadyNotify():
		return true
	default:
		return false
	}
}

func (m *member) id() uint64 { return uint64(m.etcd.Server.MemberID()) }

// self is the own entry in the list of members; nil if it is not in it (yet).
func (m *member) self() *membership.Member {
	return m.etcd.Server.Cluster().Member(m.etcd.Server.MemberID())
}

// learner reports whether the member has no vote (yet).
func (m *member) learner() bool {
	self := m.self()
	return self == nil || self.IsLearner || m.joins && !m.isReady()
}

// close stops etcd. A leader gives its part to heir first, if it is not 0. A
// member that failed is left to the end of the process, because its goroutines
// that ended can't be waited for; it must lead no more all the same.
func (m *member) close(heir uint64) {
	if m.serving != nil {
		m.serving.endClients()
	}
	if srv := m.etcd.Server; heir != 0 && srv.Leader() == srv.MemberID() {
		ctx, cancel := context.WithTimeout(context.Background(), moveTimeout)
		_ = srv.MoveLeader(ctx, m.id(), heir) // else the others elect one
		cancel()
	}
	if m.trap.err() == nil {
		m.stop()
	}
	if m.serving != nil {
		m.serving.endPeers()
	}
}

// stop stops etcd. One that fails on the way, or hangs, is left to the end of the process.
func (m *member) stop() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.client.Close()
		m.etcd.Server.HardStop()
		m.etcd.Close()
	}()
	limit := time.NewTimer(stopTimeout)
	defer limit.Stop()
	select {
	case <-done:
	case <-m.trap.failed:
	case <-limit.C:
		m.etcd.Server.Logger().Error("the member does not end", zap.Duration("after", stopTimeout))
	}
}
