package quorum

import (
	"context"
	"testing"

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
