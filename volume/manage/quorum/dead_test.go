package quorum

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestChanging: of the clients that refuse everything only the one between two others may be asked again.
func TestChanging(t *testing.T) {
	for why, want := range map[error]bool{errChanging: true, ErrClosed: false, errors.New("no voter of the pool answers"): false} {
		_, err := deadClient(why).Txn(t.Context()).Then(clientv3.OpPut("k", "v")).Commit()
		if err == nil || Changing(err) != want {
			t.Errorf("%v: a transaction's error is %v, changing: %v", why, err, Changing(err))
		}
		_, err = deadClient(why).Get(t.Context(), "k")
		if err == nil || Changing(err) != want {
			t.Errorf("%v: a question's error is %v, changing: %v", why, err, Changing(err))
		}
	}
	if !Changing(rpctypes.ErrGRPCNotSupportedForLearner) || !Changing(rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)) {
		t.Error("a learner's refusal is not to be repeated")
	}
	if Changing(nil) || Changing(fmt.Errorf("%w", errChanging)) {
		t.Error("what is no answer of a client is taken for one")
	}
}
