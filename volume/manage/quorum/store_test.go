package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const testPort = 24101

// lastHost numbers the addresses of this process's servers: 127.NET.x.y, of which
// package manage and the benchmarks have other nets.
var lastHost atomic.Uint32

// server is a daemon's store under test.
type server struct {
	*Store
	t    *testing.T
	cfg  Config
	host string
}

const testCluster = "11111111-1111-4111-8111-111111111111"

// newServer makes a server's state directory; nothing runs yet.
func newServer(t *testing.T) *server {
	t.Helper()
	n := lastHost.Add(1)
	dir := t.TempDir()
	v := &server{t: t, host: fmt.Sprintf("127.%d.%d.%d", 30+os.Getpid()%60, n/250%250, n%250+1)}
	v.cfg = Config{
		Dir: filepath.Join(dir, "etcd"), StateFile: filepath.Join(dir, "quorum.json"),
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Cluster: fmt.Sprintf("%08d-1111-4111-8111-111111111111", n),
		Port: testPort, Log: slog.New(slog.DiscardHandler),
	}
	if os.Getenv("QUORUM_LOG") != "" {
		v.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("server", n)
	}
	t.Cleanup(func() { v.close() })
	return v
}

func (v *server) open() *server {
	v.t.Helper()
	ctx, cancel := limit()
	defer cancel()
	s, err := Open(ctx, v.cfg)
	if err != nil {
		v.t.Fatalf("%s: %v", v.host, err)
	}
	v.Store = s
	return v
}

func (v *server) close() {
	if v.Store != nil {
		v.Close()
		v.Store = nil
	}
}

func (v *server) peer() string     { return PeerURL(v.host, testPort) }
func (v *server) endpoint() string { return Endpoint(v.peer()) }

// limit is a context for one call of a test.
func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// put writes a key, again while the store can't be reached.
func (v *server) put(key, value string) {
	v.t.Helper()
	v.eventually("put "+key, func(ctx context.Context) error {
		_, err := v.Client().Put(ctx, key, value)
		return err
	})
}

// has fails unless the key has the value.
func (v *server) has(key, value string) {
	v.t.Helper()
	v.eventually("get "+key, func(ctx context.Context) error {
		r, err := v.Client().Get(ctx, key)
		if err != nil {
			return err
		}
		if len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value {
			return fmt.Errorf("%s is %v, want %q", key, r.Kvs, value)
		}
		return nil
	})
}

// eventually repeats f, each time with 2 s, until it succeeds or 30 s are over.
func (v *server) eventually(what string, f func(ctx context.Context) error) {
	v.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("%s: %s: %v", v.host, what, err)
		}
		select {
		case <-v.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	v := newServer(t).open()
	if st := v.Status(); st.Role != Alone || st.Err != nil || st.Pool.Cluster != v.cfg.Cluster || st.Pool.Incarnation != 1 {
		t.Fatalf("a fresh store is %+v", st)
	}
	v.put("mortar/a", "1")
	if h := v.Health(context.Background()); !h.Quorum || h.Answer != 1 || len(h.Voters) != 1 {
		t.Fatalf("a lone store's health is %+v", h)
	}
	old, changed := v.Client(), v.Changed()
	watch := old.Watch(context.Background(), "mortar/", clientv3.WithPrefix())
	v.close()
	<-changed
	for range watch { // it is closed
	}
	if _, err := old.Get(context.Background(), "mortar/a"); err == nil {
		t.Error("a closed store answers")
	}
	v.open()
	v.has("mortar/a", "1")
	v.has(markKey, fmt.Sprintf(`{"v":1,"cluster":%q,"incarnation":1}`, v.cfg.Cluster))
	if err := v.BecomeLearner(context.Background(), v.host); !errors.Is(err, ErrMode) {
		t.Errorf("a lone store becomes a learner: %v", err)
	}
}
