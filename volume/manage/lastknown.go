package manage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lastKnownName is the file in the state directory that keeps the newest
// snapshot, for a start without the store and for `cluster recover`.
const lastKnownName = "view.json"

// Limits of keeping it.
const (
	keptMax   = 512 << 20              // bytes
	keepPause = 100 * time.Millisecond // at least between two writings
)

// keptFormat marks files of records; see the package comment.
const (
	keptFormat  = "mortar-records"
	keptVersion = 1
)

// kept is a file of records: view.json, and a backup. Sum is the CRC-32C of the
// compact form of Records, in hexadecimal.
//
//	{"format": "mortar-records", "v": 1, "cluster": UUID, "incarnation": n,
//	 "server": UUID, "revision": n, "time": RFC 3339, "sum": "1a2b3c4d",
//	 "records": [{"key": …, "revision": n, "value": {…}}, …]}
type kept struct {
	Format      string          `json:"format"`
	V           int             `json:"v"`
	Cluster     string          `json:"cluster"`
	Incarnation uint64          `json:"incarnation"`
	Server      string          `json:"server"` // that wrote it
	Revision    int64           `json:"revision"`
	Time        time.Time       `json:"time"`
	Sum         string          `json:"sum"`
	Records     json.RawMessage `json:"records"`
}

// keptRecord is a record within it.
type keptRecord struct {
	Key      string          `json:"key"`
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value"`
}

// keep writes a snapshot's records. What says who is there now is left out: it
// is not the case any more when it is read.
func keep(s *snapshot, server string, now time.Time) ([]byte, error) {
	var records []keptRecord
	for _, key := range slices.Sorted(maps.Keys(s.raw)) {
		if kind, _ := splitKey(key); kind != alivePrefix && kind != controlKey {
			records = append(records, keptRecord{key, s.raw[key].revision, s.raw[key].value})
		}
	}
	body, err := json.Marshal(records)
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept{
		Format: keptFormat, V: keptVersion, Cluster: s.epoch.Cluster, Incarnation: s.epoch.Incarnation, Server: server,
		Revision: s.revision, Time: now.UTC().Truncate(time.Second), Sum: sumOf(body), Records: body,
	})
}

func sumOf(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// readKept reads what keep wrote. The error is the second half of a sentence.
func readKept(b []byte) (*kept, *snapshot, error) {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil || k.Format != keptFormat {
		return nil, nil, errors.New("is damaged or not Mortar's")
	}
	if k.V != keptVersion {
		return nil, nil, fmt.Errorf("has the format version %d, this release knows %d", k.V, keptVersion)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, k.Records); err != nil {
		return nil, nil, errors.New("is damaged: it holds no records")
	}
	if sum := sumOf(compact.Bytes()); sum != k.Sum {
		return nil, nil, fmt.Errorf("is damaged: its checksum is %s and should be %s", sum, k.Sum)
	}
	var records []keptRecord
	if err := json.Unmarshal(k.Records, &records); err != nil {
		return nil, nil, errors.New("is damaged: its records can't be read")
	}
	byKey := make(map[string]rawRecord, len(records))
	for _, r := range records {
		byKey[r.Key] = rawRecord{r.Value, r.Revision}
	}
	s, err := snapshotOf(k.Revision, byKey)
	if err != nil {
		return nil, nil, fmt.Errorf("can't be used: %w", err)
	}
	if s.epoch.Cluster != k.Cluster || s.epoch.Incarnation != k.Incarnation {
		return nil, nil, errors.New("is damaged: it names another cluster than its records do")
	}
	s.stale = k.Time
	return &k, s, nil
}

// lastKnown reads view.json; nil if there is none or it can't be used, which is
// logged: nothing depends on it but a start without the store.
func (d *daemon) lastKnown() *snapshot {
	path := d.dir.join(lastKnownName)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var b []byte
	if err == nil && st.Size() > keptMax {
		err = fmt.Errorf("it has %d bytes", st.Size())
	}
	if err == nil {
		b, err = os.ReadFile(path)
	}
	var s *snapshot
	if err == nil {
		_, s, err = readKept(b)
	}
	if err != nil {
		d.log.Warn("the last known configuration can't be read; it is written anew when the store answers", "file", path, "error", err)
		return nil
	}
	return s
}

// keepLastKnown writes view.json whenever the configuration has changed, at
// most ten times a second, until ctx ends.
func (d *daemon) keepLastKnown(ctx context.Context) {
	var last *snapshot
	write := func(s *snapshot) {
		if !s.stale.IsZero() || last != nil && s.revision == last.revision && *s.epoch == *last.epoch {
			return
		}
		if err := d.writeLastKnown(s); err != nil {
			d.log.Warn("the last known configuration can't be kept", "error", err)
			return
		}
		last = s
	}
	defer func() { write(d.view.now()) }()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		s, changed := d.view.next()
		write(s)
		pause.Reset(keepPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (d *daemon) writeLastKnown(s *snapshot) error {
	b, err := keep(s, d.id(), time.Now())
	if err != nil {
		return err
	}
	return writeFile(d.dir.join(lastKnownName), b)
}

// writeFile makes the file whole or leaves the old one, durably.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}
