package brick

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mortarfs/mortar/volume"
	"golang.org/x/sys/unix"
)

func TestIdentity(t *testing.T) {
	const want = "mortar-brick 1\nvolume-id 3f0c8a52-6f6e-4d0e-9c5b-0d9a3a9f1c11\nvolume demo\nset 2\n" +
		"brick-id 9b1d40ce-2f3f-4f7e-8a34-55d3a1a0a2b7\ncrc32c d4b95e1f\n"
	b := testIdentity.encode()
	if i := bytes.LastIndex(b, []byte("crc32c")); string(b[:i]) != want[:strings.LastIndex(want, "crc32c")] {
		t.Errorf("the file is\n%s", b)
	}
	got, err := decodeIdentity(b)
	check(t, err)
	if got != testIdentity {
		t.Errorf("read %+v", got)
	}
	for n := range b {
		if _, err := decodeIdentity(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(b))
		}
		flipped := bytes.Clone(b)
		flipped[n] ^= 4
		if _, err := decodeIdentity(flipped); err == nil {
			t.Errorf("byte %d changed is taken", n)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add(testIdentity.encode())
	f.Add([]byte("mortar-brick 2\n"))
	f.Add([]byte("mortar-brick 1\nvolume-id x\nvolume y\nset 70000\nbrick-id z\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeIdentity(b)
		if err == nil && !bytes.Equal(id.encode(), b) {
			t.Errorf("%q was taken for %+v", b, id)
		}
	})
}

func FuzzMeta(f *testing.F) {
	f.Add(encodePointer(volume.Pointer{ID: volume.NewID(3), Mode: unix.S_IFREG, Held: 3}), placeTarget(volume.NewID(1), "name"))
	f.Add(encodeDirMeta(dirMeta{7, 2}), placeTarget(volume.Root, "name"))
	f.Add([]byte{}, (&discarded{volume.Root, "a/b", volume.Pointer{ID: volume.Root}}).encode())
	f.Fuzz(func(t *testing.T, b []byte, s string) {
		if p, err := decodePointer(b); err == nil && !bytes.Equal(encodePointer(p), b) {
			t.Errorf("%x was taken for %+v", b, p)
		}
		if m, err := decodeDirMeta(b); err == nil && !bytes.Equal(encodeDirMeta(m), b) {
			t.Errorf("%x was taken for %+v", b, m)
		}
		if p, n, ok := parsePlace(s); ok && !strings.EqualFold(placeTarget(p, n), s) && p != volume.Root {
			t.Errorf("%q was taken for %s in %s", s, n, p)
		}
		if r, ok := parseDiscarded(s); ok && r.encode() != s {
			t.Errorf("%q was taken for %+v", s, r)
		}
		if k, ok := parseKey(s); ok && keyName(k) != s {
			t.Errorf("%q was taken for %+v", s, k)
		}
	})
}

func TestInit(t *testing.T) {
	path := newBrick(t)
	check(t, Init(ctx, path, testIdentity)) // again: nothing
	other := testIdentity
	other.VolumeID = "another"
	wants(t, Init(ctx, path, other), unix.EEXIST)
	wants(t, Init(ctx, path, Identity{Volume: "x"}), unix.EINVAL)
	wants(t, Init(ctx, filepath.Join(path, "missing"), testIdentity), unix.ENOENT)
	check(t, os.RemoveAll(filepath.Join(path, volume.Reserved)))
	wants(t, Init(ctx, path, testIdentity), unix.EEXIST) // what remains of a brick
	_, err := ReadIdentity(path)
	wants(t, err, unix.ENOENT)

	begun := t.TempDir() // stopped before the identity was written
	check(t, os.Mkdir(filepath.Join(begun, volume.Reserved), 0o700))
	_, err = Open(begun, Options{})
	wants(t, err, unix.ENOENT)
	check(t, Init(ctx, begun, testIdentity))
	openBrick(t, begun, Options{})
}

func TestOpenRefuses(t *testing.T) {
	path := newBrick(t)
	file := filepath.Join(path, identityFile)
	good, err := os.ReadFile(file)
	check(t, err)
	for what, b := range map[string][]byte{
		"empty": {}, "truncated": good[:40], "foreign": []byte("hello\n"), "long": make([]byte, identityMax+1),
		"version": bytes.Replace(good, []byte("brick 1"), []byte("brick 2"), 1),
		"changed": bytes.Replace(good, []byte("demo"), []byte("demi"), 1),
	} {
		check(t, os.WriteFile(file, b, 0o600))
		_, err := Open(path, Options{})
		wants(t, err, unix.EINVAL)
		if !strings.Contains(err.Error(), identityFile) {
			t.Errorf("%s: the message does not name the file: %v", what, err)
		}
		wants(t, Init(ctx, path, testIdentity), unix.EINVAL)
	}
	check(t, os.WriteFile(file, good, 0o600))
	for _, e := range []Identity{{VolumeID: "x"}, {Volume: "x"}, {Set: 9}, {BrickID: "x"}} {
		_, err := Open(path, Options{Expect: e})
		wants(t, err, unix.EINVAL)
	}
	s := openBrick(t, path, Options{Expect: testIdentity})
	_, err = Open(path, Options{})
	wants(t, err, unix.EBUSY)
	check(t, s.Close())
	check(t, unix.Setxattr(path, attrID, make([]byte, 3), 0))
	_, err = Open(path, Options{})
	wants(t, err, unix.EIO)
	if s.Brick() != path || s.Identity() != testIdentity {
		t.Errorf("%s %+v", s.Brick(), s.Identity())
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	for path, errno := range map[string]unix.Errno{
		"relative": unix.EINVAL, filepath.Join(dir, "missing"): unix.ENOENT, file: unix.ENOTDIR, "/proc": unix.EOPNOTSUPP,
	} {
		_, err := Check(path)
		wants(t, err, errno)
	}
	outer := filepath.Join(dir, "outer")
	inner := filepath.Join(outer, "a", "b")
	check(t, os.MkdirAll(inner, 0o755))
	r, err := Check(inner)
	check(t, err)
	if r.Brick != nil || r.Inside != "" || r.Contains != "" || r.Remains || r.FileSystem == "" || r.Device == "" {
		t.Errorf("%+v", r)
	}
	check(t, Init(ctx, inner, testIdentity))
	r, err = Check(outer)
	check(t, err)
	if r.Contains != inner {
		t.Errorf("%+v", r)
	}
	below := filepath.Join(inner, "below")
	check(t, os.Mkdir(below, 0o755))
	r, err = Check(below)
	check(t, err)
	if r.Inside != inner {
		t.Errorf("%+v", r)
	}
	r, err = Check(inner)
	check(t, err)
	if r.Brick == nil || *r.Brick != testIdentity {
		t.Errorf("%+v", r)
	}
	at := onImage(t, "ext4", 64)
	r, err = Check(at)
	check(t, err)
	if !r.IsMountPoint || r.OnRoot || r.FileSystem != "ext4" || !strings.HasPrefix(r.Device, "/dev/loop") {
		t.Errorf("%+v", r)
	}
	d, err := DiskOf(at)
	check(t, err)
	if d.FileSystem != "ext4" || d.BlockSize == 0 || d.Inodes == 0 || d.Total < 32<<20 || d.Free > d.Total || !strings.Contains(d.MountOptions, "rw") {
		t.Errorf("%+v", d)
	}
}

func TestParseMount(t *testing.T) {
	m, ok := parseMount(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	if want := (mount{"/mnt 2", "ext3", "/dev/root", "rw,noatime,errors=continue"}); !ok || m != want {
		t.Errorf("%+v", m)
	}
	if _, ok := parseMount("garbage"); ok {
		t.Error("garbage was taken")
	}
}
