package quorum

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A handler that panics, as etcd's do on a database that is just closed, gives
// an error that makes the caller ask another member; one that doesn't is left alone.
func TestSurvive(t *testing.T) {
	reply, err := survive(t.Context(), nil, nil, func(context.Context, any) (any, error) {
		var closed *struct{ pages int }
		return closed.pages, nil
	})
	if reply != nil || status.Code(err) != codes.Unavailable {
		t.Errorf("a panic became %v, %v", reply, err)
	}
	reply, err = survive(t.Context(), "question", nil, func(_ context.Context, request any) (any, error) { return request, nil })
	if reply != "question" || err != nil {
		t.Errorf("an answer became %v, %v", reply, err)
	}
}

// TestSilentClient has a client that connects and says nothing: the end of a member does not wait for it long.
func TestSilentClient(t *testing.T) {
	t.Parallel()
	v := newServer(t).open()
	ctx, cancel := limit()
	defer cancel()
	if err := v.Listen(ctx, v.host); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", v.endpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if a := v.conns.probe(ctx, v.endpoint()); a.err != nil { // who came before has been taken in
		t.Fatal(a.err)
	}
	began := time.Now()
	v.close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("its end took %v", took)
	}
}
