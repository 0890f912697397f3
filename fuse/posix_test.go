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
		if raceEnabled && name != "acl" {
			continue // at a tenth of the speed, one will do
		}
		t.Run(name, func(t *testing.T) {
			c.differs.NoShift = true // the kernel's FUSE refuses collapse and insert range
			if name != "plain" {     // in full once
				c.differs.Entries, c.differs.Exercises = 500, 500
			}
			posixtest.Run(t, mountProcess(t, c.options), c.differs)
		})
	}
}
