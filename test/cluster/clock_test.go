package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clockVariable is by how many seconds the clock of a skewed binary is wrong.
const clockVariable = "MORTAR_TEST_CLOCK"

// skewed builds the binary with a library of Go's whose time.Now is wrong by
// what the environment says: the kernel can shift the time since boot for a
// process, but not the time of day, and a static binary takes no library that could.
func skewed(t *testing.T, dir string) string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(goroot)), "src/time/time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(source), now, now+"\tsec += skew\n", 1)
	if changed == string(source) {
		t.Fatalf("%s: Now is written in another way in this release of Go", original)
	}
	changed = strings.Replace(changed, "import (", "import (\n\t\"syscall\"", 1) + `
var skew = func() (n int64) {
	s, _ := syscall.Getenv("` + clockVariable + `")
	for _, c := range s {
		n = 10*n + int64(c-'0')
	}
	return n
}()
`
	overlay, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mortar-skewed")
	replacement := filepath.Join(dir, "time.go.txt")
	list, _ := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err := errors.Join(os.WriteFile(replacement, []byte(changed), 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "github.com/mortarfs/mortar/cmd/mortar")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build with another clock: %v\n%s", err, out)
	}
	return binary
}

// The clocks of three servers are an hour and two apart: nothing that the pool
// does goes by the time of day. It takes a build of all of Go's library, so it is
// for soaks; what keeps it true otherwise is that all waits and leases count on
// the monotonic clock, as do those of etcd.
func TestSoakClocksApart(t *testing.T) {
	if !soaking() {
		return
	}
	c := NewStopped(t, 3)
	binary := skewed(t, c.Dir)
	for i, s := range c.Servers {
		s.Program, s.Env = binary, []string{fmt.Sprint(clockVariable, "=", i*3600)}
		s.Launch()
	}
	for i, s := range c.Servers {
		s.AwaitAnswer()
		var logged time.Time
		for word := range strings.FieldsSeq(s.Log()) {
			if stamp, ok := strings.CutPrefix(word, "time="); ok {
				logged, _ = time.Parse(time.RFC3339, stamp)
				break
			}
		}
		if off := time.Since(logged) + time.Duration(i)*time.Hour; off < -time.Minute || off > time.Minute {
			t.Errorf("the clock of %s says %v", s.Name, logged)
		}
	}
	c.Pool()
	c.Volume("v", 1)
	load := StartLoad(t, c.Mount(0, "v"))
	for i, s := range c.Servers {
		s.Must("volume", "set", "v", "network.timeout", fmt.Sprint(10+i))
		s.PowerOff()
		other := c.Servers[(i+1)%3]
		Eventually(t, "two can change things", func() error {
			if r := other.Run("volume", "set", "v", "network.timeout", fmt.Sprint(20+i)); r.Code != 0 {
				return errors.New(r.Out + r.Err)
			}
			return nil
		})
		s.PowerOn()
		s.AwaitAnswer()
		c.AwaitPool(c.Servers...)
	}
	same(t, c.Servers...)
	failures, _ := load.Stop()
	t.Logf("%d failures while servers were off", len(failures))
	for _, s := range c.Servers {
		s.AwaitOnline("v")
	}
	Eventually(t, "the mount goes on", func() error { return writeSynced(filepath.Join(load.Dir(), "x"), nil) })
	load.Check(load.Dir())
}
