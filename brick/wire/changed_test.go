package wire

import (
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// TestChangedDir: of each operation that changes one name, the directory that it is in afterwards.
func TestChangedDir(t *testing.T) {
	dir, other := volume.ID{1}, volume.ID{2}
	for _, c := range []struct {
		op   Op
		args []byte
		ok   bool
	}{
		{OpCreate, (&CreateArgs{Dir: dir, Name: "n"}).Append(nil), true},
		{OpMake, (&MakeArgs{Dir: dir, Name: "n"}).Append(nil), true},
		{OpBear, append((&BearArgs{MakeArgs{Dir: dir, Name: "n"}, false}).Append(nil), "data"...), true},
		{OpUnlink, (&NameArgs{dir, "n"}).Append(nil), true},
		{OpLink, (&LinkArgs{other, dir, "n"}).Append(nil), true},
		{OpRename, (&RenameArgs{OldDir: other, OldName: "long name", NewDir: dir, NewName: "n"}).Append(nil), true},
		{OpRename, (&RenameArgs{OldDir: other, OldName: "long name", NewDir: dir}).Append(nil)[:20], false},
		{OpRmdir, (&NameArgs{dir, "n"}).Append(nil), true},
		{OpRemove, (&RemoveArgs{Dir: dir, Name: "n"}).Append(nil), true},
		{OpLookup, (&NameArgs{dir, "n"}).Append(nil), false},
		{OpCreate, nil, false},
	} {
		if got, ok := ChangedDir(c.op, c.args); ok != c.ok || ok && got != dir {
			t.Errorf("%s: %v, %v", c.op, got, ok)
		}
	}
}
