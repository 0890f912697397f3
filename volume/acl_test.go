package volume

import "testing"

func TestMinimalACL(t *testing.T) {
	for mode := range uint32(0o1000) {
		if got, ok := ParseMinimalACL(MinimalACL(mode | 0o4000)); got != mode || !ok {
			t.Fatalf("%o becomes %o, %v", mode, got, ok)
		}
	}
	good := MinimalACL(0o640)
	for i := range good {
		bad := append([]byte{}, good...)
		bad[i] |= 0x08
		_, ok := ParseMinimalACL(bad)
		if id := i >= 4 && (i-4)%aclEntrySize >= 4; ok != id { // the ID of these entries means nothing
			t.Errorf("byte %d changed: taken for a minimal ACL: %v", i, ok)
		}
	}
	if _, ok := ParseMinimalACL(append(good, make([]byte, aclEntrySize)...)); ok {
		t.Error("a longer one is taken for a minimal ACL")
	}
	if _, ok := ParseMinimalACL(nil); ok {
		t.Error("none is taken for a minimal ACL")
	}
}
