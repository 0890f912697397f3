package quorum

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// Of the state file; see the package comment.
const (
	stateFormat  = "mortar-quorum"
	stateVersion = 1
	stateMax     = 64 << 10 // bytes
)

// mode is what this daemon is in the store, as it is recorded.
type mode string

const (
	modeAlone  mode = "alone"  // a member without a listener, the only one
	modeVoter  mode = "voter"  // a member with listeners; a learner at first
	modeClient mode = "client" // no member
)

// state is what the state file records. Each transition is one write of it.
type state struct {
	Mode        mode     `json:"mode"`
	Cluster     string   `json:"cluster"`          // UUID of the pool
	Incarnation uint64   `json:"incarnation"`      // from 1; raised by each Recover
	Host        string   `json:"host,omitempty"`   // under which the others reach the member; "" with modeAlone
	Data        string   `json:"data,omitempty"`   // the member's directory, below Config.Dir; "" with modeClient
	Born        bool     `json:"born,omitempty"`   // the member has been up: its directory must have a log
	Voters      []string `json:"voters,omitempty"` // where the pool's voters answer clients, host:port
}

type stateFile struct {
	Format string          `json:"format"`
	V      int             `json:"v"`
	CRC32C uint32          `json:"crc32c"` // of Body's bytes
	Body   json.RawMessage `json:"body"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readState reads the state file; fs.ErrNotExist if there is none, ErrDamaged
// if it can't be believed.
func readState(path string) (state, error) {
	var s state
	st, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if st.Size() > stateMax {
		return s, damaged(path, fmt.Sprintf("it has %d bytes", st.Size()))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	return decodeState(path, b)
}

func decodeState(path string, b []byte) (s state, err error) {
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil {
		return s, damaged(path, "it is no JSON")
	}
	switch {
	case f.Format != stateFormat:
		return s, damaged(path, "it is not Mortar's")
	case f.V != stateVersion:
		return s, fmt.Errorf("%s has the format version %d, this release knows %d: use a newer release", path, f.V, stateVersion)
	case f.CRC32C != crc32.Checksum(f.Body, castagnoli):
		return s, damaged(path, "its checksum does not match")
	}
	if err := json.Unmarshal(f.Body, &s); err != nil {
		return s, damaged(path, "it is no JSON")
	}
	if err := s.check(); err != nil {
		return s, damaged(path, err.Error())
	}
	return s, nil
}

// check says what of a state contradicts itself.
func (s *state) check() error {
	switch s.Mode {
	case modeAlone, modeVoter:
		if s.Data == "" || s.Data != "." && filepath.Base(s.Data) != s.Data {
			return fmt.Errorf("it names the data directory %q", s.Data)
		}
		if s.Mode == modeVoter && s.Host == "" {
			return errors.New("it names no host")
		}
	case modeClient:
		if len(s.Voters) == 0 {
			return errors.New("it names no voter")
		}
	default:
		return fmt.Errorf("it knows the mode %q", s.Mode)
	}
	if s.Cluster == "" || s.Incarnation == 0 {
		return errors.New("it names no cluster")
	}
	return nil
}

func damaged(path, why string) error {
	return fmt.Errorf("%w: %s: %s; restore the state directory, or move it away and let this server join the pool again", ErrDamaged, path, why)
}

func encodeState(s state) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(stateFile{stateFormat, stateVersion, crc32.Checksum(body, castagnoli), body})
	if err != nil {
		return nil, err
	}
	return append(bytes.TrimSpace(b), '\n'), nil
}

// writeState replaces the state file, durably, whole or not at all.
func writeState(path string, s state) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("the state of the configuration store is not to be recorded: %w", err)
	}
	b, err := encodeState(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("the state directory can't be written: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("the state directory can't be written: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// firstState returns the state of a daemon that has no state file: alone, with
// an empty store, or with the one that a release without state file has left.
func firstState(dir, cluster string) (state, error) {
	s := state{Mode: modeAlone, Cluster: cluster, Incarnation: 1, Data: "1"}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if _, err := os.Stat(filepath.Join(dir, "member")); err == nil {
		s.Data, s.Born = ".", true
		return s, nil
	}
	return s, fmt.Errorf("%w: %s holds the data of a store, but the file that says what it is a part of is gone; restore it, or move the state directory away and let this server join the pool again", ErrDamaged, dir)
}
