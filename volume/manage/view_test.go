package manage

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mortarfs/mortar/volume/manage/quorum"
)

// exchanged is a source whose client is exchanged.
type exchanged struct {
	mu struct {
		sync.Mutex
		client  *clientv3.Client
		changed chan struct{}
	}
}

func (e *exchanged) Client() *clientv3.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.client
}

func (e *exchanged) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.changed
}

func (e *exchanged) exchange(c *clientv3.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.changed != nil {
		close(e.mu.changed)
	}
	e.mu.client, e.mu.changed = c, make(chan struct{})
}

// TestWrittenAsClientIsExchanged: a daemon that has just become a voter asks its own store from then on. What it had
// written just before, with the client of before, is seen though the new one's view was there before it was looked for.
func TestWrittenAsClientIsExchanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := quorum.Open(t.Context(), quorum.Config{
		Dir: filepath.Join(dir, "etcd"), StateFile: filepath.Join(dir, "quorum.json"),
		ID: newUUID(), Cluster: newUUID(), MaxRecord: recordMax, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := s.Client()
	second := clientv3.NewCtxClient(t.Context())
	second.KV, second.Watcher = first.KV, first.Watcher
	from := &exchanged{}
	from.exchange(first)
	v := newView(from, nil, slog.New(slog.DiscardHandler))
	following, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { v.follow(following) })
	defer done.Wait()
	defer stop()

	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	key, record := volumeKey("v"), encode(&volumeRecord{V: recordVersion, Name: "v", ID: newUUID(), Phase: checking})
	r, err := first.Put(ctx, key, record)
	if err != nil {
		t.Fatal(err)
	}
	from.exchange(second)
	if _, err := v.until(ctx, func(s *snapshot) bool { return s.from == second }); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	begun := time.Now()
	snap, err := v.written(short, first, r.Header.Revision)
	if err != nil || string(snap.raw[key].value) != record {
		t.Errorf("after %v: %v, the record is %q", time.Since(begun), err, snap.raw[key].value)
	}
}
