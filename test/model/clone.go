package model

import (
	"maps"

	"github.com/mortarfs/mortar/volume"
)

// clone returns a copy of the tree that shares nothing changeable.
func (t *tree) clone() *tree {
	c := &tree{objects: make(map[volume.ID]*object, len(t.objects)), discards: maps.Clone(t.discards), pages: t.pages}
	for id, o := range t.objects {
		p := *o
		p.data = o.data.clone()
		p.children = maps.Clone(o.children)
		p.xattrs = maps.Clone(o.xattrs) // values are never changed in place
		c.objects[id] = &p
	}
	return c
}

// restart is what a start finds on the disk: no handles; what was open or held
// without a name waits among the orphans, directories aside.
func (t *tree) restart() {
	for _, o := range t.objects {
		if (o.opens > 0 || o.held) && o.names == 0 && !o.isDir() {
			o.orphan, o.held = true, false
		}
		o.opens, o.at = 0, volume.Time{}
	}
}
