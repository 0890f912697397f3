package oplog

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// setFile is the file of a KeySet.
type setFile struct {
	fd     int
	head   head
	size   int64 // all before it is durable
	ragged bool  // it may be longer
	anew   int64 // it is not written anew for being long before it has this size
}

// frameFull is the length at which a frame of changes is ended, bytes.
const frameFull = 64 << 10

// anewMin is the size up to which a file of changes may be as wasteful as it likes, bytes.
const anewMin = 1 << 20

// changeFrames makes frames of changes, for a file of which everything before synced is durable.
type changeFrames struct {
	b      []byte
	from   int // of the frame that is being written; -1: none is
	salt   uint32
	synced int64
}

func (c *changeFrames) add(op byte, k Key) {
	if c.from < 0 {
		c.from = len(c.b)
		c.b = binary.LittleEndian.AppendUint64(append(beginFrame(c.b), changePayload), uint64(c.synced))
	}
	c.b = AppendKey(append(c.b, op), k)
	if len(c.b)-c.from >= frameFull {
		c.end()
	}
}

// end returns the frames.
func (c *changeFrames) end() []byte {
	if c.from >= 0 {
		endFrame(c.b, c.from)
		salted(c.b, c.from, c.salt)
		c.from = -1
	}
	return c.b
}

var errChanges = errors.New("a frame that holds no changes")

// parseChanges calls f with each change of a payload.
func parseChanges(b []byte, f func(op byte, k Key)) (synced int64, err error) {
	if len(b) < 1+8 || b[0] != changePayload {
		return 0, errChanges
	}
	synced = int64(binary.LittleEndian.Uint64(b[1:]))
	for b = b[9:]; len(b) > 0; {
		op := b[0]
		if op != addOp && op != removeOp {
			return 0, errChanges
		}
		var k Key
		if k, b, err = ParseKey(b[1:]); err != nil {
			return 0, errChanges
		}
		f(op, k)
	}
	return synced, nil
}

// commit writes what is waiting and makes it durable. The caller is busy.
func (s *KeySet) commit(op string) error {
	s.mu.Lock()
	must, want := s.mu.must, s.mu.c.rewrite || s.file.size > anewMin && s.file.size > 4*(s.mu.c.bytes+headSize) && s.file.size >= s.file.anew
	broken := s.mu.broken
	s.mu.Unlock()
	if broken != nil {
		return broken
	}
	if must || want {
		done, err := s.writeAnew(op)
		if done || must {
			return err
		}
		s.file.anew = 2 * s.file.size
	}
	return s.writeMore(op)
}

// writeMore appends what is waiting.
func (s *KeySet) writeMore(op string) error {
	s.mu.Lock()
	changes, added := s.mu.changes, s.mu.added
	s.mu.changes = nil
	s.mu.Unlock()
	f := &s.file
	frames := changeFrames{from: -1, salt: f.head.salt, synced: f.size}
	for _, c := range changes {
		frames.add(c.op, c.key)
	}
	b := frames.end()
	var err error
	if f.ragged {
		err = s.sys.Ftruncate(f.fd, f.size)
	}
	if err == nil {
		f.ragged = false
		if err = writeAll(s.sys, f.fd, b, f.size); err != nil {
			f.ragged = s.sys.Ftruncate(f.fd, f.size) != nil
		}
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.changes = append(changes, s.mu.changes...)
		return fail(op, s.name, err)
	}
	if err := s.sys.Fdatasync(f.fd); err != nil {
		return s.breakDown(op, err)
	}
	f.size += int64(len(b))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.durable = max(s.mu.durable, added)
	return nil
}

// writeAnew puts a file in the place of this one that has no more than is in the set. done: it
// did, or nothing will be written any more.
func (s *KeySet) writeAnew(op string) (done bool, err error) {
	h := newHead(keysMagic, s.file.head.number, s.file.head.time)
	s.mu.Lock()
	frames := changeFrames{b: h.append(make([]byte, 0, s.mu.c.bytes+s.mu.c.bytes/16+4096)), from: -1, salt: h.salt, synced: headSize}
	s.mu.c.each(func(k Key) { frames.add(addOp, k) })
	changes, added, must, rewrite := s.mu.changes, s.mu.added, s.mu.must, s.mu.c.rewrite
	s.mu.changes, s.mu.must, s.mu.c.rewrite = nil, false, false
	s.mu.Unlock()
	b := frames.end()
	fd, placed, err := s.replace(s.name, b)
	if placed && err != nil {
		return true, s.breakDown(op, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.mu.changes = append(changes, s.mu.changes...)
		s.mu.must, s.mu.c.rewrite = s.mu.must || must, s.mu.c.rewrite || rewrite
		return false, fail(op, s.name, err)
	}
	if s.file.fd >= 0 {
		s.sys.Close(s.file.fd)
	}
	s.file = setFile{fd: fd, head: h, size: int64(len(b))}
	s.mu.durable = max(s.mu.durable, added)
	return true, nil
}

// breakDown notes that nothing will be durable any more: what the kernel could not
// write it has dropped, and a second fsync would say that all is well.
func (s *KeySet) breakDown(op string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.broken = damaged(op, s.name, "an earlier write to the disk failed: %w", err)
	return fail(op, s.name, err)
}

// OpenKeySet opens the key set of that name in the directory dir, and makes it if there is
// none, durably. All keys in it are pending. A damaged file counts as Full (see Damage).
func OpenKeySet(dir, name string, opt SetOptions) (*KeySet, error) {
	const op = "key set open"
	if err := checkFileName(op, name); err != nil {
		return nil, err
	}
	if opt.Limit <= 0 {
		opt.Limit = 1_000_000
	}
	d, err := openFolder(opt.Sys, dir)
	if err != nil {
		return nil, fail(op, dir, err)
	}
	s := &KeySet{folder: d, name: name}
	s.file.fd = -1
	s.mu.c = newContent(opt.Limit)
	if err := s.load(op, opt); err != nil {
		if s.file.fd >= 0 {
			d.sys.Close(s.file.fd)
		}
		d.close()
		return nil, fail(op, name, err)
	}
	return s, nil
}

// load reads the file, or makes it.
func (s *KeySet) load(op string, opt SetOptions) error {
	if err := s.sys.Unlink(s.folder.fd, s.name+tmpSuffix, 0); err != nil && err != unix.ENOENT {
		return err
	}
	fd, err := s.sys.Open(s.folder.fd, s.name, unix.O_RDWR|unix.O_NOFOLLOW, 0)
	if err == unix.ENOENT {
		s.file.head.number, s.file.head.time = opt.number, opt.time
		for _, k := range opt.Begin {
			s.mu.c.add(k, 0)
		}
		_, err = s.writeAnew(op)
		return err
	}
	if err != nil {
		return err
	}
	s.file.fd = fd
	// It may have been put there by a process that died before it could make that durable.
	if err := s.sys.Fsync(s.folder.fd); err != nil {
		return err
	}
	h, err := readHead(s.sys, fd, keysMagic)
	switch {
	case err == nil && h.number == opt.number:
		s.file.head = h
		err = s.loadChanges()
	case err == nil:
		err = errHead
	}
	if err == errHead || errors.Is(err, errChanges) {
		s.mu.damage = damaged(op, s.name, "the file is damaged (%w): everything counts as being in it", err)
		s.file.head.number, s.file.head.time = opt.number, opt.time
		s.mu.c = newContent(opt.Limit)
		s.mu.c.add(Full, 0)
		_, err = s.writeAnew(op)
	}
	return err
}

// loadChanges reads the file after its header. What is there was written, but
// not necessarily synced: it is now.
func (s *KeySet) loadChanges() error {
	lost := int64(0) // all before it was durable
	end, err := scan(s.sys, s.file.fd, s.file.head.salt, func(b []byte) error {
		_, err := parseChanges(b, func(op byte, k Key) {
			if op == addOp {
				s.mu.c.add(k, 0)
			} else {
				s.mu.c.remove(k)
			}
		})
		return err
	}, func(_ int64, b []byte) {
		if synced, err := parseChanges(b, func(byte, Key) {}); err == nil {
			lost = max(lost, synced)
		}
	})
	if err != nil {
		return err
	}
	if lost > end {
		return errChanges
	}
	s.file.size = end
	s.mu.c.rewrite = false
	if err := s.sys.Ftruncate(s.file.fd, end); err != nil {
		return err
	}
	return s.sys.Fdatasync(s.file.fd)
}
