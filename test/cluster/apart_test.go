package cluster

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Programs start while a client of theirs has a file open that nobody serves.
func TestApart(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 1)
	path := filepath.Join(s.Mount("v"), "file")
	opened, served, done := make(chan error), make(chan struct{}), make(chan error)
	go func() {
		done <- apart(func() {
			f, err := os.Create(path)
			opened <- err
			<-served
			f.Close()
		})
	}()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	brickPID := s.Status("v")[0].PID
	s.Kill() // so that nobody starts the brick again
	if err := syscall.Kill(brickPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < time.Second; { // the mount knows by then that the brick is gone
		one := time.Now()
		s.Exec(nil, "true")
		if took := time.Since(one); took > 6*time.Second { // a mount waits 10 s for a brick
			t.Fatalf("a program took %v", took)
		}
	}
	s.Start()
	s.AwaitOnline("v")
	close(served)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
