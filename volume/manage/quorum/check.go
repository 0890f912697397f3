package quorum

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// hasLog reports whether a member has ever run in dir: etcd makes the directory
// of its log whole, under another name, before anything is in it.
func hasLog(dir string) bool {
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	return err == nil && len(logs) > 0
}

// checkDatabase looks through all pages of etcd's database, if there is one.
// etcd itself maps it unseen and, in goroutines that nobody can guard, would end
// the process at a place that is damaged or cut off; and without its log it
// would wait for ever for what the database has seen already.
func checkDatabase(dir string) (err error) {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !hasLog(dir) {
		return errors.New("its log is gone")
	}
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its database is damaged: %v", p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("its database is damaged: %w", err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if tx.Size() > st.Size() {
			return fmt.Errorf("%d of %d bytes are there", st.Size(), tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
	if err != nil {
		err = fmt.Errorf("its database is damaged: %w", err)
	}
	if e := db.Close(); err == nil {
		err = e
	}
	return err
}
