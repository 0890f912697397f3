package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// KeyValue is a key with its value, as Export gives and Found takes it.
type KeyValue struct {
	Key      string
	Value    []byte
	Revision int64 // of its last change; Found ignores it
}

// Export returns all keys that begin with prefix and belong to no lease, in
// order, with the store's revision at that moment. It needs a majority.
func (s *Store) Export(ctx context.Context, prefix string) ([]KeyValue, int64, error) {
	keys, revision, err := export(ctx, s.Client(), prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("the configuration store can't be read: %w", err)
	}
	return keys, revision, nil
}

func export(ctx context.Context, c *clientv3.Client, prefix string, opts ...clientv3.OpOption) ([]KeyValue, int64, error) {
	var start, opt = prefix, clientv3.WithPrefix()
	if prefix == "" {
		start, opt = "\x00", clientv3.WithFromKey()
	}
	r, err := c.Get(ctx, start, append(opts, opt)...)
	if err != nil {
		return nil, 0, err
	}
	var out []KeyValue
	for _, kv := range r.Kvs {
		if kv.Lease == 0 {
			out = append(out, KeyValue{string(kv.Key), kv.Value, kv.ModRevision})
		}
	}
	return out, r.Header.Revision, nil
}

// Founding says what a new cluster of one begins with.
type Founding struct {
	Cluster     string // UUID
	Incarnation uint64 // from 1
	Host        string // under which it listens; "": it is alone
	Keys        []KeyValue
}

// Found makes this server the only member of a new store with these keys. What
// it had or was before is dropped when the new store is whole on disk: an error
// before that changes nothing. Revisions begin anew.
func (s *Store) Found(ctx context.Context, f Founding) error {
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.found(ctx, f)
}

// BecomeAlone leaves the pool: Found with no keys, as the cluster with this UUID.
func (s *Store) BecomeAlone(ctx context.Context, cluster string) error {
	return s.Found(ctx, Founding{Cluster: cluster, Incarnation: 1})
}

func (s *Store) found(ctx context.Context, f Founding) error {
	next := state{Mode: modeAlone, Cluster: f.Cluster, Incarnation: f.Incarnation, Data: s.fresh(), Born: true}
	if f.Host != "" {
		next.Mode, next.Host = modeVoter, f.Host
		next.Voters = []string{Endpoint(peerURL(f.Host, s.cfg.Port))}
	}
	if err := s.prepare(ctx, next, f.Keys); err != nil {
		_ = os.RemoveAll(s.data(next)) // else tidy does
		return fmt.Errorf("the new configuration store can't be made: %w", err)
	}
	s.pass("prepared")
	if err := s.become(next); err != nil {
		_ = os.RemoveAll(s.data(next))
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout) // the old one is gone: finish
	defer cancel()
	if err := s.begin(ctx, next); err != nil {
		return err
	}
	s.pass("started")
	if err := s.answering(ctx); err != nil {
		return err
	}
	if next.Mode == modeVoter {
		_, m := s.now()
		return s.readdress(ctx, next, m)
	}
	return nil
}

// prepare makes the data directory of a new store with its keys.
func (s *Store) prepare(ctx context.Context, next state, keys []KeyValue) (err error) {
	b := birthAlone(s.cfg.ID, next)
	b.brief = true
	m, err := startMember(s.cfg.ID, s.data(next), placeholder, b, s.cfg.MaxRecord, s.cfg.Log)
	if err != nil {
		return err
	}
	defer m.close(0)
	if err := m.ready(ctx); err != nil {
		return err
	}
	if err := putMark(ctx, m.client, next); err != nil {
		return err
	}
	for _, kv := range keys {
		if kv.Key == markKey {
			continue
		}
		if _, err := m.client.Put(ctx, kv.Key, string(kv.Value)); err != nil {
			return fmt.Errorf("%s: %w", kv.Key, err)
		}
	}
	return nil
}

// Recover makes what this voter's member knows the store of a pool of one, when
// the majority is lost for good: the same cluster, the next incarnation. All
// that its log holds counts as decided, also what no majority confirmed. Members
// and clients of the earlier incarnation find out (ErrSuperseded). Only one
// survivor may be recovered. Until the new store is whole on disk an error
// changes nothing.
func (s *Store) Recover(ctx context.Context) error {
	h := s.Health(ctx)
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	st, m := s.now()
	switch err := s.Status().Err; {
	case st.Mode != modeVoter:
		return fmt.Errorf("%w: this server is no voter", ErrMode)
	case errors.Is(err, ErrSuperseded):
		return err
	case h.Answer >= h.Majority:
		return fmt.Errorf("%w: %d of %d voters answer, a majority: nothing is to be recovered", ErrMode, h.Answer, len(h.Voters))
	}
	why := errors.New("the configuration store is being recovered")
	s.mu.Lock()
	s.mu.member, s.mu.err = nil, why
	s.mu.Unlock()
	s.use(deadClient(why), "")
	if m != nil {
		m.close(0)
	}
	s.pass("stopped")
	keys, err := s.salvage(ctx, st)
	if err == nil {
		err = s.found(ctx, Founding{Cluster: st.Cluster, Incarnation: st.Incarnation + 1, Host: st.Host, Keys: keys})
	}
	if now, running := s.now(); err != nil && running == nil && now.Data == st.Data {
		s.mu.Lock()
		s.mu.err = nil
		s.mu.Unlock()
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		err = errors.Join(fmt.Errorf("the configuration store can't be recovered: %w", err), s.begin(again, st))
	}
	return err
}

// salvage returns all keys of a member that does not run, from a copy of its data.
func (s *Store) salvage(ctx context.Context, st state) (keys []KeyValue, err error) {
	scratch := filepath.Join(s.cfg.Dir, s.fresh()+scratchSuffix)
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := copyTree(ctx, filepath.Join(s.data(st), "member"), filepath.Join(scratch, "member")); err != nil {
		return nil, err
	}
	s.pass("copied")
	if err := decideAll(filepath.Join(scratch, "member", "wal"), s.zap); err != nil {
		return nil, fmt.Errorf("%w: its log can't be read: %w", ErrDamaged, err)
	}
	m, err := startMember(s.cfg.ID, scratch, placeholder, birth{initial: s.cfg.ID + "=" + placeholder, force: true, brief: true}, s.cfg.MaxRecord, s.cfg.Log)
	if err != nil {
		return nil, err
	}
	defer m.close(0)
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	s.pass("forced")
	keys, _, err = export(ctx, m.client, "")
	return keys, err
}

// decideAll notes in a member's log that every entry of it is committed. How far
// the log was committed a member that only followed knows a heartbeat late.
func decideAll(dir string, log *zap.Logger) error {
	snaps, err := wal.ValidSnapshotEntries(log, dir)
	if err != nil {
		return err
	}
	at := &walpb.Snapshot{}
	if len(snaps) > 0 {
		at = snaps[len(snaps)-1]
	}
	for repaired := false; ; repaired = true {
		w, err := wal.Open(log, dir, at)
		if err != nil {
			return err
		}
		_, st, entries, err := w.ReadAll()
		if err != nil {
			w.Close()
			if repaired || !errors.Is(err, io.ErrUnexpectedEOF) || !wal.Repair(log, dir) { // cut off in the last write
				return err
			}
			continue
		}
		if n := len(entries); n > 0 && st.GetCommit() < entries[n-1].GetIndex() {
			last := entries[n-1].GetIndex()
			st.Commit = &last
			err = w.Save(st, nil)
		}
		return errors.Join(err, w.Close())
	}
}

// copyTree copies a member's files. Logs are sparse at their end, which is kept small.
func copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
