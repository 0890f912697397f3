package manage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// Sizes of the configuration store. A volume of ten bricks takes some 10 KiB.
const (
	storeQuota         = 256 << 20 // bytes of etcd's database; beyond it changes are refused
	storeSegment       = 4 << 20   // bytes of a log segment; two are allocated at once
	storeSnapshotCount = 1000      // log entries kept in memory before a snapshot
	storeCatchUp       = 200       // and after one
	storeHistory       = "1000"    // revisions kept
	storeStartTimeout  = 30 * time.Second
)

// store is the embedded etcd and the client that reaches it within the process.
// One daemon is a cluster of one, which needs no listener at all: nothing of
// etcd is on the network, and any number of daemons can share a machine. The
// pool of several daemons gives etcd a peer listener on the daemon's own
// address (see peering).
type store struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	failed chan struct{} // closed when etcd gave up for good; why holds the reason
	trap   *fatalTrap
}

// peering is how a store's member meets the others. The zero value: not at all.
type peering struct {
	name string // of the member: the daemon's UUID
	self string // URL under which the others reach it; a placeholder while there are none
}

// setSegmentSize shrinks etcd's log segments, whose size is a variable of its
// package, once for the process: 64 MB of preallocation are made for other loads.
var setSegmentSize = sync.OnceFunc(func() { wal.SegmentSizeBytes = storeSegment })

// openStore starts etcd on dir and waits until it answers. The error is a
// sentence for people. etcd ends the process where it finds its files damaged or
// can't write them; here it only ends its own goroutine and closes failed.
func openStore(ctx context.Context, dir string, p peering, log *slog.Logger) (*store, error) {
	setSegmentSize()
	s := &store{failed: make(chan struct{})}
	s.trap = &fatalTrap{failed: s.failed}
	cfg, err := storeConfig(dir, p, log, s.trap)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeStartTimeout)
	defer cancel()
	if s.etcd, err = startEtcd(cfg, s.trap); err != nil {
		return nil, fmt.Errorf("the configuration store in %s can't be opened: %w", dir, err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		s.client = v3client.New(s.etcd.Server)
		return s, nil
	case <-s.failed:
		return nil, fmt.Errorf("the configuration store in %s failed: %w", dir, s.trap.err())
	case err := <-s.etcd.Err():
		return nil, fmt.Errorf("the configuration store in %s failed: %w", dir, err)
	case <-ctx.Done():
		s.close()
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("the configuration store in %s did not start within %v", dir, storeStartTimeout)
	}
}

func storeConfig(dir string, p peering, log *slog.Logger, trap *fatalTrap) (*embed.Config, error) {
	self, err := url.Parse(p.self)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Name, c.Dir = p.name, dir
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{*self}
	c.InitialCluster = p.name + "=" + p.self
	c.InitialClusterToken = "mortar"
	c.SnapshotCount, c.SnapshotCatchUpEntries = storeSnapshotCount, storeCatchUp
	c.QuotaBackendBytes = storeQuota
	c.MaxRequestBytes = recordMax + 64<<10
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, storeHistory
	c.PreVote, c.StrictReconfigCheck = true, true
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger(log, trap))
	return c, nil
}

// startEtcd calls StartEtcd, which may return, panic, or end this goroutine or
// one that it waits for, through the trap.
func startEtcd(cfg *embed.Config, trap *fatalTrap) (*embed.Etcd, error) {
	if err := checkDatabase(cfg.Dir); err != nil {
		return nil, err
	}
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() { // it can't be waited for where etcd waits for what has ended: the process ends then
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("%v", p)
			}
			done <- r
		}()
		r.err = errors.New("it ended by itself")
		r.etcd, r.err = embed.StartEtcd(cfg)
	}()
	select {
	case <-trap.failed:
		return nil, trap.err()
	case r := <-done:
		if err := trap.err(); err != nil {
			return nil, err
		}
		return r.etcd, r.err
	}
}

// checkDatabase looks through all pages of etcd's database, if there is one.
// etcd itself maps it unseen and, in goroutines that nobody can guard, would end
// the process at a place that is damaged or cut off; and without its log it
// would wait for ever for what the database has seen already.
func checkDatabase(dir string) (err error) {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		return errors.New("its log is gone")
	}
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its database is damaged: %v", p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("its database is damaged: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if tx.Size() > st.Size() {
			return fmt.Errorf("%d of %d bytes are there", st.Size(), tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
	if err != nil {
		err = fmt.Errorf("its database is damaged: %w", err)
	}
	if e := db.Close(); err == nil {
		err = e
	}
	return err
}

// close stops etcd. A store that failed is left to the end of the process: its
// goroutines that ended can't be waited for.
func (s *store) close() {
	if s.trap.err() != nil {
		return
	}
	if s.client != nil {
		s.client.Close()
	}
	s.etcd.Close()
}
