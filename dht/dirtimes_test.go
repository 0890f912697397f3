package dht

import (
	"slices"
	"testing"

	"github.com/mortarfs/mortar/volume"
)

// timed are the attributes of a part with an atime, mtime and ctime.
func timed(a, m, c int64) volume.Attr {
	return volume.Attr{Atime: volume.Time{Sec: a}, Mtime: volume.Time{Sec: m}, Ctime: volume.Time{Sec: c}}
}

func TestDirectoryTimes(t *testing.T) {
	for name, c := range map[string]struct {
		home   volume.Attr
		copies []volume.Attr
		want   volume.Attr
	}{
		"alone":                                    {timed(1, 2, 3), nil, timed(1, 2, 3)},
		"a name changed on a copy":                 {timed(10, 10, 10), []volume.Attr{timed(10, 20, 20), timed(10, 15, 15)}, timed(10, 20, 20)},
		"read on a copy":                           {timed(10, 10, 10), []volume.Attr{timed(30, 10, 10)}, timed(30, 10, 10)},
		"a copy was made later":                    {timed(10, 10, 10), []volume.Attr{timed(10, 10, 40)}, timed(10, 10, 10)},
		"chmod at home":                            {timed(10, 10, 30), []volume.Attr{timed(10, 20, 20)}, timed(10, 20, 30)},
		"set to the past":                          {timed(5, 5, 50), []volume.Attr{timed(5, 5, 51), timed(5, 5, 52)}, timed(5, 5, 50)},
		"set to the past, then a name":             {timed(5, 5, 50), []volume.Attr{timed(5, 5, 51), timed(5, 60, 60)}, timed(5, 60, 60)},
		"set ahead":                                {timed(5, 900, 50), []volume.Attr{timed(5, 900, 51), timed(5, 900, 52)}, timed(5, 900, 50)},
		"set ahead, then a name at home":           {timed(5, 60, 60), []volume.Attr{timed(5, 900, 51), timed(5, 900, 52)}, timed(5, 60, 60)},
		"set ahead, then a name on a copy":         {timed(5, 900, 50), []volume.Attr{timed(5, 900, 51), timed(5, 60, 60)}, timed(5, 60, 60)},
		"set ahead, then names on two copies":      {timed(5, 900, 50), []volume.Attr{timed(5, 70, 70), timed(5, 60, 60)}, timed(5, 70, 70)},
		"set ahead, then a subdirectory on a copy": {timed(5, 900, 61), []volume.Attr{timed(5, 900, 51), timed(5, 60, 60)}, timed(5, 60, 61)},
		"set ahead, and its copies are refreshed":  {timed(5, 900, 50), []volume.Attr{timed(5, 900, 80)}, timed(5, 900, 50)},
	} {
		for range 2 { // in either order
			if got := withCopies(c.home, c.copies); got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
			slices.Reverse(c.copies)
		}
	}
}
