package fuse

import (
	"testing"

	"github.com/mortarfs/mortar/test/posixtest"
)

// TestPosix runs the suite over a mount path on the model.
func TestPosix(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		differs posixtest.Options
	}{
		"plain":  {"", posixtest.Options{}},
		"acl":    {"acl", posixtest.Options{ACL: true}},
		"direct": {"direct-io-mode=enable", posixtest.Options{}},
		"strict": {"attribute-timeout=0,entry-timeout=0,use-readdirp=no", posixtest.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.differs.NoShift = true // the kernel's FUSE refuses collapse and insert range
			if name != "plain" {     // the large directory and the exerciser once in full is enough
				c.differs.Entries, c.differs.Exercises = 1000, 1000
			}
			posixtest.Run(t, mountProcess(t, c.options), c.differs)
		})
	}
}
