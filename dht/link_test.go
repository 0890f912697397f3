package dht

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// A link is made on the set with the data first. If the object's other name is
// removed then, whoever looks at the new name afterwards waits for it: else he would
// find neither, and later a name for what had none.
func TestLinkBesideUnlink(t *testing.T) {
	w := newWorld(t)
	old, name := w.file(w.dir, 2, "old"), w.owned(w.dir, 1, "new")
	a, err := w.fs.Lookup(w.ctx, w.dir, old)
	w.must(err)

	made, decide := make(chan struct{}), make(chan struct{})
	var once sync.Once
	net := network(func(_ *life, to volume.SetID, b []byte, send func() ([]byte, error)) ([]byte, error) {
		answer, err := send()
		if st, derr := decodeStep(b); derr == nil && st.op == opApply && to == 2 {
			once.Do(func() { close(made) })
			<-decide
		}
		return answer, err
	})
	w.net.Store(&net)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		if _, err := w.client().Link(w.ctx, a.ID, w.dir, name); err != nil {
			t.Errorf("link: %v", err)
		}
	})
	<-made
	if err := w.client().Unlink(w.ctx, w.dir, old); err != nil {
		t.Errorf("unlink: %v", err)
	}
	looked := make(chan struct{})
	work.Go(func() {
		defer close(looked)
		if b, err := w.client().Lookup(w.ctx, w.dir, name); err != nil || b.ID != a.ID {
			t.Errorf("lookup of the new name: %v, %v; want %v", b.ID, err, a.ID)
		}
	})
	// The look-up answers early, wrongly, or waits, and is seen to.
	for waits := false; !waits; {
		select {
		case <-looked:
			waits = true
		case <-time.After(time.Millisecond):
			waits = w.nodes[1].owner().names.waited(nameKey{w.dir, name})
		}
	}
	close(decide)
	<-looked
	if _, err := w.fs.Lookup(w.ctx, w.dir, old); !isErrno(err, syscall.ENOENT) {
		t.Errorf("lookup of the old name: %v", err)
	}
}

// waited reports whether a reader waits for k.
func (t *lockTable) waited(k nameKey) bool {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.mu.locks[k]
	return l != nil && len(l.readers) > 0
}
