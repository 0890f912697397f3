package wire

import (
	"context"
	"io"
	"testing"
)

func TestLocal(t *testing.T) {
	const brick = "test-9d2f0c1e"
	if _, err := DialLocal(context.Background(), brick); err == nil {
		t.Fatal("dialed a brick that does not run")
	}
	l, err := ListenLocal(brick)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ListenLocal(brick); err == nil {
		t.Error("two listen in one brick's place")
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = c.Write([]byte("brick"))
			c.Close()
		}
		done <- err
	}()
	c, err := DialLocal(context.Background(), brick)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "brick" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
