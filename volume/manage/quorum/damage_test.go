package quorum

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStateFile(t *testing.T) {
	t.Parallel()
	good := state{Mode: modeVoter, Cluster: testCluster, Incarnation: 3, Host: "h", Data: "7", Born: true, Voters: []string{"h:1", "i:1"}}
	b, err := encodeState(good)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"mode":"voter","cluster":"` + testCluster + `","incarnation":3,"host":"h","data":"7","born":true,"voters":["h:1","i:1"]}`
	golden := fmt.Sprintf(`{"format":"mortar-quorum","v":1,"crc32c":%d,"body":%s}`+"\n", crc32.Checksum([]byte(body), castagnoli), body)
	if string(b) != golden {
		t.Errorf("encoded\n%swant\n%s", b, golden)
	}
	if got, err := decodeState("f", b); err != nil || got.Host != "h" || got.Incarnation != 3 || len(got.Voters) != 2 {
		t.Errorf("decoded %+v, %v", got, err)
	}
	for i := range b { // every byte counts, or is space
		bad := append([]byte(nil), b...)
		bad[i] ^= 1
		if got, err := decodeState("f", bad); err == nil && got.check() == nil && i < len(b)-1 {
			t.Errorf("with byte %d (%q) changed it is believed", i, b[i])
		}
		if _, err := decodeState("f", b[:i]); err == nil && i < len(b)-1 {
			t.Errorf("cut to %d bytes it is believed", i)
		}
	}
	if _, err := decodeState("f", []byte(strings.Replace(golden, `"v":1`, `"v":2`, 1))); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("of a newer version: %v", err)
	}
	for _, s := range []state{{}, {Mode: modeVoter, Cluster: "c", Incarnation: 1, Data: "1"}, {Mode: modeAlone, Cluster: "c", Incarnation: 1, Data: "../1"}, {Mode: modeClient, Cluster: "c", Incarnation: 1}} {
		if err := writeState(filepath.Join(t.TempDir(), "f"), s); err == nil {
			t.Errorf("recorded: %+v", s)
		}
	}
}

func FuzzState(f *testing.F) {
	b, err := encodeState(state{Mode: modeClient, Cluster: testCluster, Incarnation: 1, Voters: []string{"h:1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState("f", b); err == nil && s.check() != nil {
			t.Errorf("believed: %+v", s)
		}
	})
}

// What is damaged is refused with a sentence, and left as it is.
func TestDamaged(t *testing.T) {
	t.Parallel()
	cut := func(path string) func(*server) error {
		return func(v *server) error { return os.Truncate(filepath.Join(v.cfg.Dir, path), 8192) }
	}
	for name, damage := range map[string]func(*server) error{
		"state file": func(v *server) error { return os.WriteFile(v.cfg.StateFile, []byte("{}"), 0o600) },
		"no state":   func(v *server) error { return os.Remove(v.cfg.StateFile) },
		"database":   cut("1/member/snap/db"),
		"no log":     func(v *server) error { return os.RemoveAll(filepath.Join(v.cfg.Dir, "1/member/wal")) },
		"no data":    func(v *server) error { return os.RemoveAll(filepath.Join(v.cfg.Dir, "1")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newServer(t).open()
			v.put("mortar/a", "1")
			v.close()
			if err := damage(v); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				s, err := Open(context.Background(), v.cfg)
				if err == nil {
					s.Close()
				}
				if !errors.Is(err, ErrDamaged) || strings.ContainsAny(err.Error(), "\n") {
					t.Errorf("opened: %v", err)
				}
			}
		})
	}
}

// The data of a release without state file go on.
func TestOlderRelease(t *testing.T) {
	t.Parallel()
	v := newServer(t)
	setSegmentSize()
	m, err := startMember(v.cfg.ID, v.cfg.Dir, placeholder, birth{token: "mortar", initial: v.cfg.ID + "=" + placeholder, brief: true}, 0, v.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.Put(context.Background(), "mortar/a", "1"); err != nil {
		t.Fatal(err)
	}
	m.close(0)
	v.open().has("mortar/a", "1")
	v.close()
	v.open().has("mortar/a", "1")
	if err := v.BecomeAlone(context.Background(), testCluster); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(v.cfg.Dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	v := newServer(t).open()
	l, err := net.Listen("tcp", v.endpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := v.Listen(context.Background(), v.host); err == nil || !strings.Contains(err.Error(), v.endpoint()) {
		t.Errorf("on a port that is taken: %v", err)
	}
	if st := v.Status(); st.Role != Alone {
		t.Errorf("it is %+v", st)
	}
	l.Close()
	if err := v.Listen(context.Background(), v.host); err != nil {
		t.Error(err)
	}
	v.put("mortar/a", "1")
}

// A voter's disk is full: its member ends with a sentence, the process and the
// pool go on, and this server asks the other voters.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("the test mounts a file system: run it as root")
	}
	a, b := newServer(t).open(), newServer(t)
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.close()
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b.cfg.Dir, b.cfg.StateFile = filepath.Join(disk, "etcd"), filepath.Join(disk, "quorum.json")
	p := pool{a}
	b.open()
	p = append(p, p.join(b))
	c := p.join(newServer(t).open())
	p = append(p, c)
	p.rest(3)
	p.roles(Voter, Voter, Voter)
	a.put("mortar/a", "1")
	b.eventually("lead", func(ctx context.Context) error { // the worst case
		for _, v := range p {
			if _, m := v.now(); v.leads() && v != b {
				_, to := b.now()
				return m.etcd.Server.MoveLeader(ctx, m.id(), to.id())
			}
		}
		if !b.leads() {
			return errors.New("it does not")
		}
		return nil
	})
	full, err := os.Create(filepath.Join(disk, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; b.Status().Err == nil; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("a member goes on with a full disk: %+v", b.Status())
		}
		a.put("mortar/big", strings.Repeat("x", 256<<10))
	}
	if err := b.Status().Err; !errors.Is(err, ErrFailed) || strings.Contains(err.Error(), "\n") {
		t.Errorf("with a full disk: %v", err)
	}
	t.Log(b.Status().Err)
	a.eventually("follow another leader", func(ctx context.Context) error {
		if h := a.Health(ctx); !h.Quorum || h.Answer != 2 || slices.ContainsFunc(h.Voters, func(v VoterHealth) bool { return v.Leads && v.Name == b.cfg.ID }) {
			return fmt.Errorf("the health is %+v", h)
		}
		return nil
	})
	b.put("mortar/b", "1") // through the others
	a.has("mortar/b", "1")
}

// A voter that comes back with another address is found by the others, as is
// one that moves while it runs.
func TestMoved(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	b, d := p[1], p[3]
	p[0].put("mortar/a", "1")
	move := func() {
		b.host = newServer(t).host
		b.cfg.Host = b.host
	}
	known := func() {
		t.Helper()
		for _, v := range []*server{p[0], d} {
			v.eventually("know the new address", func(context.Context) error {
				if e := v.Status().Pool.Endpoints; !strings.Contains(fmt.Sprint(e), b.endpoint()) {
					return fmt.Errorf("it knows %v", e)
				}
				return nil
			})
			v.healthy(3)
		}
	}
	b.close()
	move()
	b.open().has("mortar/a", "1")
	known()
	move()
	if err := b.Listen(context.Background(), b.host); err != nil {
		t.Fatal(err)
	}
	known()
	b.close()
	b.cfg.Host = "" // as recorded
	b.open().has("mortar/a", "1")
	known()
}
