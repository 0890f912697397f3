package fstest

import (
	"syscall"

	"github.com/mortarfs/mortar/volume"
)

var privTests = []test{
	{"who clears suid and sgid", func(e *env) {
		const gid = 7
		id := e.file(e.dir, "f", "content")
		f := e.open(id, volume.Write)
		for what, do := range map[string]func(e *env) error{
			"write": func(e *env) error { _, err := f.WriteAt(e.ctx, []byte("x"), 0, volume.WriteKillPriv); return err },
			"append": func(e *env) error {
				_, err := f.Append(e.ctx, []byte("x"), volume.WriteKillPriv)
				return err
			},
			"cut": func(e *env) error {
				g, err := e.fs.Open(e.ctx, id, volume.Write|volume.Truncate|volume.KillPriv)
				if err == nil {
					err = g.Close()
				}
				return err
			},
			"clear": func(e *env) error {
				_, err := e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.ClearPriv})
				return err
			},
			"chown": func(e *env) error {
				_, err := e.fs.Setattr(e.ctx, id, volume.Change{Mask: volume.SetGID, GID: gid})
				return err
			},
			"allocate": func(e *env) error { return f.Allocate(e.ctx, 0, 0, 100) },
		} {
			if what == "allocate" && e.feat.NoAllocate {
				continue
			}
			for _, c := range []struct {
				by         volume.Cred
				mode, want uint32
			}{
				{volume.Cred{UID: 5, GID: gid}, 0o6777, 0o777},
				{volume.Cred{UID: 5, GID: gid}, 0o6766, 0o2766}, // no execution, but a member
				{volume.Cred{UID: 5, GID: gid}, 0o2666, 0o2666},
				{volume.Cred{UID: 6, GID: 8}, 0o2666, 0o666}, // after a member's, which left it
				{volume.Cred{UID: 6, GID: 8}, 0o6766, 0o766},
				{volume.Cred{UID: 6, GID: 8}, 0o4711, 0o711},
			} {
				e.change(id, volume.Change{Mask: volume.SetGID | volume.SetMode, GID: gid, Mode: c.mode})
				e.ok(do(e.as(c.by)))
				if a := e.attr(id); a.Mode != syscall.S_IFREG|c.want {
					e.Errorf("%s by %d:%d of %o: mode %o, want %o", what, c.by.UID, c.by.GID, c.mode, a.Mode&0o7777, c.want)
				}
			}
		}
		e.change(id, volume.Change{Mask: volume.SetMode, Mode: 0o6777})
		if !e.feat.NoAllocate {
			e.ok(f.Allocate(e.ctx, 0, 0, 100))
		}
		if a := e.attr(id); a.Mode&0o7777 != 0o6777 {
			e.Errorf("root allocates: mode %o", a.Mode&0o7777)
		}
	}},
}
