// Package cluster brings up Mortar as its users have it, for tests: real
// daemon, brick and mount processes of the binary that is built from this tree.
//
//	s := cluster.NewServer(t)      one server on a loopback address of the test's own machine
//	s.Volume("v", 3)               a started volume of three bricks
//	dir := s.Mount("v")
//
//	c := cluster.New(t, 3)         three servers and a client on a network of their own
//	c.Pool()                       server 1 has probed the others
//	c.Volume("v", 1)               one brick on each
//	dir := c.Mount(0, "v")         on the client, by the name of server 1
//	c.Cut(c.Servers[0], c.Servers[1])
//	c.Servers[2].PowerOff()
//
// The servers of a Cluster are named server1 … serverN and the client "client";
// each has its network namespace, host name and /etc/hosts (network.go,
// machine.go). The machine under the test sees nothing of all that but files and
// processes, so any number of clusters live side by side.
//
// Whatever is started here is gone when the test has ended, failed, panicked or
// been killed (sweep.go; TestMain calls Main for that), and the logs of a failed
// test are printed. Nothing waits for a fixed time: everything polls with a
// deadline (Eventually).
package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Deadline bounds what a test waits for in one go.
const Deadline = 30 * time.Second

// built is the binary, made once a test process.
var built struct {
	sync.Once
	path string
	err  error
}

// Binary returns the path of the mortar binary of this tree, building it once.
// MORTAR_BINARY names one that is to be used instead.
func Binary(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.path = os.Getenv("MORTAR_BINARY"); built.path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "mortar-binary-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "mortar")
		cmd := exec.Command("go", "build", "-o", built.path, "github.com/mortarfs/mortar/cmd/mortar")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// Result is what a command printed and how it ended.
type Result struct {
	Out, Err string
	Code     int
}

// Command runs the binary with args until it ends, at most Deadline.
func Command(t testing.TB, env []string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(t), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second // reading the last of its output may take a while on a busy machine
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("mortar %s: still running after %v", strings.Join(args, " "), Deadline)
	}
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatalf("mortar %s: %v", strings.Join(args, " "), err)
	}
	return Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Eventually polls until ok returns nil, and fails the test with its last
// error when Deadline has passed.
func Eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	EventuallyIn(t, Deadline, what, ok)
}

// EventuallyIn is Eventually with its own deadline.
func EventuallyIn(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(within)
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-end:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}
