package cluster

import (
	"fmt"
	"testing"

	"github.com/mortarfs/mortar/test/posixtest"
	"github.com/mortarfs/mortar/test/realwork"
)

// These take the longest, and tests begin in the order of the files' names.

// Real programs at work.
func TestRealWork(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	s.Volume("v", 3)
	realwork.Run(t, s.Mount("v"))
}

// What only a kernel sees, on a mount of several bricks.
func TestPOSIX(t *testing.T) {
	t.Parallel()
	for _, bricks := range []int{1, 3} {
		t.Run(fmt.Sprint(bricks, "bricks"), func(t *testing.T) {
			t.Parallel()
			s := NewServer(t)
			s.Volume("v", bricks)
			posixtest.Run(t, s.Mount("v", "acl"), posixtest.Options{ACL: true, NoShift: true})
		})
	}
}
