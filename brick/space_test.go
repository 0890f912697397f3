package brick

import (
	"fmt"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

// TestFullDisk fills a small disk: what was acknowledged stays, all else is
// ENOSPC, and removing makes room.
func TestFullDisk(t *testing.T) {
	at := onImage(t, "ext4", 16)
	path := at + "/brick"
	check(t, unix.Mkdir(path, 0o755))
	check(t, Init(ctx, path, testIdentity))
	s := openBrick(t, path, Options{})
	data := make([]byte, 20_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	ids := map[string]volume.ID{}
	full := 0
	for i := 0; full < 20; i++ {
		name := fmt.Sprint(i)
		if i%5 == 4 {
			_, err := s.Make(ctx, volume.Root, "d"+name, volume.Node{Mode: unix.S_IFDIR | 0o755})
			if err != nil {
				wants(t, err, unix.ENOSPC)
				full++
			}
		}
		if a, err := s.Make(ctx, volume.Root, "b"+name, volume.Node{Mode: unix.S_IFREG | 0o644, Data: data}); err != nil {
			wants(t, err, unix.ENOSPC)
			_, err := s.Lookup(ctx, volume.Root, "b"+name)
			wants(t, err, unix.ENOENT)
			full++
		} else {
			ids["b"+name] = a.ID
		}
		h, a, err := s.Create(ctx, volume.Root, name, volume.Node{Mode: unix.S_IFREG | 0o644}, volume.Write|volume.Excl)
		if err != nil {
			wants(t, err, unix.ENOSPC)
			full++
			continue
		}
		n, err := h.WriteAt(ctx, data, 0, 0)
		if err != nil {
			wants(t, err, unix.ENOSPC)
			full++
		}
		if err == nil && n == len(data) {
			ids[name] = a.ID
		}
		check(t, h.Close())
	}
	check(t, s.Settle(ctx))
	check(t, s.Close())
	s = openBrick(t, path, Options{})
	if len(ids) < 100 {
		t.Errorf("only %d files", len(ids))
	}
	for name, id := range ids {
		if got := contents(t, s, id); got != string(data) {
			t.Errorf("%s lost its contents", name)
		}
		check(t, s.Unlink(ctx, volume.Root, name))
	}
	create(t, s, volume.Root, "room", string(data))
	clean(t, s)
	check(t, s.Close())
	fsck(t, path)
}
