package realwork

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deliverMail is a Maildir: senders write to tmp, sync and rename to new; a
// reader renames from new to cur with flags, and changes the flags. No message may
// be lost, doubled or in part.
func deliverMail(t *testing.T, w *work, dir string) {
	for _, d := range []string{"tmp", "new", "cur"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	const senders = 4
	var sent atomic.Int64
	var reading sync.WaitGroup
	var done atomic.Bool
	reading.Go(func() {
		for last := false; !last; {
			last = done.Load() // one more pass after the last delivery
			if err := takeMail(dir); err != nil {
				t.Errorf("reader: %v", err)
				return
			}
		}
	})
	parallel(t, senders*w.mails, func(i int) error {
		name := fmt.Sprintf("%d.M%dP%d.host", 1_700_000_000+i, i, os.Getpid())
		f, err := os.OpenFile(filepath.Join(dir, "tmp", name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(message(name))
		if err == nil && i%8 == 0 {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(filepath.Join(dir, "tmp", name), filepath.Join(dir, "new", name))
		}
		sent.Add(1)
		return err
	})
	done.Store(true)
	reading.Wait()
	cur, err := os.ReadDir(filepath.Join(dir, "cur"))
	must(t, err)
	seen := map[string]bool{}
	for _, x := range cur {
		name, _, _ := strings.Cut(x.Name(), ":")
		b, err := os.ReadFile(filepath.Join(dir, "cur", x.Name()))
		must(t, err)
		if seen[name] || string(b) != message(name) || !strings.HasSuffix(x.Name(), ":2,RS") {
			t.Errorf("message %s twice or in part: %d bytes", x.Name(), len(b))
		}
		seen[name] = true
	}
	if len(seen) != int(sent.Load()) {
		t.Errorf("%d messages arrived of %d", len(seen), sent.Load())
	}
	for _, d := range []string{"tmp", "new"} {
		if rest, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(rest) != 0 {
			t.Errorf("%s holds %v, %v", d, rest, err)
		}
	}
}

// message is the content of a mail.
func message(name string) string {
	return "Message-ID: <" + name + ">\n\n" + strings.Repeat(name+"\n", len(name)*10)
}

// takeMail moves all new mail to cur, as seen and then as answered.
func takeMail(dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "new"))
	for _, x := range entries {
		seen := filepath.Join(dir, "cur", x.Name()+":2,S")
		err = errors.Join(err,
			os.Rename(filepath.Join(dir, "new", x.Name()), seen),
			os.Rename(seen, filepath.Join(dir, "cur", x.Name()+":2,RS")))
	}
	return err
}

// The database: pages of pageSize bytes, each with its own checksum and the
// number of the transaction that wrote it; all pages carry the same one.
const (
	pageSize = 4096
	pages    = 32
)

// newPage is a page as a transaction writes it: number, transaction, checksum, filling.
func newPage(number int, transaction uint64) []byte {
	p := make([]byte, pageSize)
	for i := range p {
		p[i] = byte(transaction) ^ byte(i)
	}
	binary.LittleEndian.PutUint64(p, uint64(number))
	binary.LittleEndian.PutUint64(p[8:], transaction)
	clear(p[16:48])
	sum := sha256.Sum256(p)
	copy(p[16:], sum[:])
	return p
}

// checkDatabase reads all pages and returns the transaction that they are of.
func checkDatabase(f *os.File) (uint64, error) {
	b := make([]byte, pages*pageSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	transaction := binary.LittleEndian.Uint64(b[8:])
	for i := range pages {
		if !slices.Equal(b[i*pageSize:(i+1)*pageSize], newPage(i, transaction)) {
			is := b[i*pageSize:]
			return 0, fmt.Errorf("page %d is not of transaction %d: it says page %d of %d", i, transaction,
				binary.LittleEndian.Uint64(is), binary.LittleEndian.Uint64(is[8:]))
		}
	}
	return transaction, nil
}

// keepDatabase does transactions as SQLite does with a rollback journal: old
// pages to a journal, sync, new pages to the file, sync, unlink the journal, sync
// the directory; writers exclude readers by locks. Readers must never see a part.
func keepDatabase(t *testing.T, w *work, dir string) {
	path := filepath.Join(dir, "db")
	var first []byte
	for i := range pages {
		first = append(first, newPage(i, 0)...)
	}
	must(t, os.WriteFile(path, first, 0o644))
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			last := uint64(0)
			for !done.Load() {
				now, err := readDatabase(path)
				if err != nil || now < last {
					t.Errorf("reader after transaction %d: %d, %v", last, now, err)
					return
				}
				last = now
			}
		})
	}
	var err error
	for i := 1; i <= w.transactions && err == nil; i++ {
		if i%10 == 7 { // a crash before the commit: the next opener rolls back
			err = transact(dir, uint64(i), true)
		}
		if err == nil {
			err = transact(dir, uint64(i), false)
		}
	}
	done.Store(true)
	readers.Wait()
	must(t, err)
	if last, err := readDatabase(path); err != nil || last != uint64(w.transactions) {
		t.Errorf("the last transaction is %d, %v; want %d", last, err, w.transactions)
	}
	if _, err := os.Stat(path + "-journal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is still there: %v", err)
	}
}

// locked runs f with the database open and locked.
func locked(path string, typ int16, f func(db *os.File) error) error {
	db, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for {
		l := unix.Flock_t{Type: typ, Start: 1 << 30, Len: 510} // where SQLite has its locks
		if err = unix.FcntlFlock(db.Fd(), unix.F_OFD_SETLKW, &l); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		err = f(db)
	}
	return errors.Join(err, db.Close())
}

// readDatabase checks the database under a shared lock.
func readDatabase(path string) (transaction uint64, err error) {
	err = locked(path, unix.F_RDLCK, func(db *os.File) error {
		var err error
		transaction, err = checkDatabase(db)
		return err
	})
	return transaction, err
}

// transact does one transaction; with crash it stops after half of the pages and
// rolls back from the journal, as the next opener would.
func transact(dir string, number uint64, crash bool) error {
	path := filepath.Join(dir, "db")
	return locked(path, unix.F_WRLCK, func(db *os.File) error {
		old := make([]byte, pages*pageSize)
		if _, err := db.ReadAt(old, 0); err != nil {
			return err
		}
		j, err := os.OpenFile(path+"-journal", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		_, err = j.Write(old)
		if err = errors.Join(err, j.Sync(), syncDir(dir)); err != nil {
			return err
		}
		for i := range pages {
			if crash && i == pages/2 {
				break
			}
			if _, err := db.WriteAt(newPage(i, number), int64(i*pageSize)); err != nil {
				return err
			}
		}
		if crash {
			if _, err := j.ReadAt(old, 0); err != nil {
				return err
			}
			if _, err := db.WriteAt(old, 0); err != nil {
				return err
			}
		}
		return errors.Join(db.Sync(), j.Close(), os.Remove(path+"-journal"), syncDir(dir))
	})
}

// syncDir is fsync of a directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// fillDirectory puts many files into one directory and lists it while others
// create, rename and remove there.
func fillDirectory(t *testing.T, w *work, dir string) {
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("stay-%07d", i)) }
	begin := time.Now()
	lap := func(what string) {
		t.Logf("%s: %v", what, time.Since(begin).Round(10*time.Millisecond))
		begin = time.Now()
	}
	parallel(t, w.files, func(i int) error { return unix.Mknod(name(i), unix.S_IFREG|0o644, 0) })
	lap("made")
	var stop atomic.Bool
	var others sync.WaitGroup
	for o := range 2 {
		others.Go(func() {
			for i := 0; !stop.Load(); i++ {
				p := filepath.Join(dir, fmt.Sprintf("go-%d-%d", o, i%500))
				err := errors.Join(os.WriteFile(p, []byte("x"), 0o644), os.Rename(p, p+"-renamed"))
				if err == nil && i%5 > 0 {
					err = os.Remove(p + "-renamed")
				}
				if err != nil {
					t.Errorf("beside the listing: %v", err)
					return
				}
			}
		})
	}
	for round := range 3 {
		listOnce(t, dir, w.files, round)
		lap("listed")
	}
	stop.Store(true)
	others.Wait()
	if out := tool(t, dir, nil, "find", ".", "-name", "stay-*", "-type", "f", "-printf", "."); len(out) != w.files {
		t.Errorf("find sees %d files of %d", len(out), w.files)
	}
	lap("found")
	parallel(t, w.files, func(i int) error { return unix.Unlink(name(i)) })
	lap("removed")
	rest, err := os.ReadDir(dir)
	must(t, err)
	for _, x := range rest {
		if strings.HasPrefix(x.Name(), "stay-") {
			t.Errorf("%s is still listed", x.Name())
		}
	}
}

// listOnce lists a directory: each name that stays must come once.
func listOnce(t *testing.T, dir string, files, round int) {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	names, err := d.Readdirnames(-1)
	must(t, errors.Join(err, d.Close()))
	stay := 0
	slices.Sort(names)
	for i, n := range names {
		if i > 0 && names[i-1] == n && strings.HasPrefix(n, "stay-") {
			t.Errorf("round %d: %s was listed twice", round, n)
		}
		if strings.HasPrefix(n, "stay-") {
			stay++
		}
	}
	if stay != files {
		t.Errorf("round %d: %d files were listed, want %d", round, stay, files)
	}
}
