package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// knobs are the sizes that the workloads are made of. The published figures are
// made with the flags' defaults.
type knobs struct {
	files     int           // files of the small-file workloads
	threads   int           // goroutines of the small-file and random workloads, at most 256
	sizeMiB   int           // of the large file
	randomFor time.Duration // how long each random workload runs
	tree      string        // a directory of real files to copy, search and remove
}

// caches says what the kernel has to forget before a workload: what is written
// to /proc/sys/vm/drop_caches (proc_sys_vm(5)).
type caches string

// What is forgotten: nothing, dentries and inodes, those and file contents.
const (
	warm      caches = ""
	coldNames caches = "2"
	coldAll   caches = "3"
)

// smallSize is the size of the small-file workloads' files, in bytes.
const smallSize = 4096

// A workload does its work below a directory, which it finds as the workload it
// needs has left it, and tells how many units it did. It ends soon after ctx does.
type workload struct {
	name, unit string
	forget     caches
	needs      string // the workload whose leavings it uses; "": none
	run        func(ctx context.Context, k knobs, dir string) (units float64, err error)
}

// workloads lists them in the order in which they run.
func workloads() []workload {
	return []workload{
		{"mkdir", "dirs", warm, "", mkdirs},
		{"create-4k", "files", warm, "mkdir", small(create)},
		{"stat-cold", "files", coldNames, "create-4k", small(stat)},
		{"stat-warm", "files", warm, "create-4k", small(stat)},
		{"lookup-missing", "names", warm, "create-4k", small(lookupMissing)},
		{"read-4k-cold", "files", coldAll, "create-4k", small(readBack)},
		{"ls-l-cold", "entries", coldNames, "create-4k", walk},
		{"append-fsync", "writes", warm, "", appendSync},
		{"rename", "files", warm, "create-4k", small(func(path string) error { return os.Rename(path, path+".new") })},
		{"unlink", "files", warm, "rename", small(func(path string) error { return os.Remove(path + ".new") })},
		{"seq-write-1m", "MiB", warm, "", seqWrite},
		{"seq-read-1m-cold", "MiB", coldAll, "seq-write-1m", seqRead},
		{"rand-read-4k-direct", "reads", warm, "seq-write-1m", random((*os.File).ReadAt)},
		{"rand-write-4k-direct", "writes", warm, "seq-write-1m", random((*os.File).WriteAt)},
		{"tree-copy", "files", warm, "", treeCopy},
		{"tree-grep-cold", "files", coldAll, "tree-copy", treeSearch},
		{"tree-remove", "files", warm, "tree-copy", treeRemove},
	}
}

// smallPath is where the small files lie: 20 directories, filled in turn.
func smallPath(dir string, i int) string {
	return filepath.Join(dir, "small", fmt.Sprintf("d%02d", i%20), fmt.Sprintf("file-%06d", i))
}

// small makes a workload of what is done to each of the small files.
func small(do func(path string) error) func(context.Context, knobs, string) (float64, error) {
	return func(ctx context.Context, k knobs, dir string) (float64, error) {
		return float64(k.files), parallel(ctx, k.threads, k.files, func(i int) error { return do(smallPath(dir, i)) })
	}
}

// mkdirs makes the small files' 20 directories and 180 that stay empty.
func mkdirs(_ context.Context, _ knobs, dir string) (float64, error) {
	for i := range 20 {
		if err := os.MkdirAll(filepath.Dir(smallPath(dir, i)), 0o755); err != nil {
			return 0, err
		}
	}
	for i := range 180 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("empty-%d", i)), 0o755); err != nil {
			return 0, err
		}
	}
	return 200, nil
}

// pattern is what the small files hold.
var pattern = func() []byte {
	b := make([]byte, smallSize)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}()

func create(path string) error { return os.WriteFile(path, pattern, 0o644) }

func stat(path string) error {
	_, err := os.Lstat(path)
	return err
}

func lookupMissing(path string) error {
	if _, err := os.Lstat(path + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lstat of a name that does not exist: %v", err)
	}
	return nil
}

func readBack(path string) error {
	b, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(b, pattern) {
		err = fmt.Errorf("%s: %d bytes that are not what was written", path, len(b))
	}
	return err
}

// walk lists the small files' directories and asks for every entry's attributes.
func walk(ctx context.Context, _ knobs, dir string) (float64, error) {
	entries := 0.0
	err := filepath.WalkDir(filepath.Join(dir, "small"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		if _, err := d.Info(); err != nil {
			return err
		}
		return ctx.Err()
	})
	return entries, err
}

// appendSync writes a log as databases do: 300 records of 512 bytes, each synced.
func appendSync(ctx context.Context, _ knobs, dir string) (float64, error) {
	const records = 300
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for range records {
		if _, err := f.Write(pattern[:512]); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	return records, nil
}

func largePath(dir string) string { return filepath.Join(dir, "large") }

// seqWrite writes the large file in blocks of 1 MiB that don't compress and syncs it once.
func seqWrite(ctx context.Context, k knobs, dir string) (float64, error) {
	f, err := os.Create(largePath(dir))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	for range k.sizeMiB {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	return float64(k.sizeMiB), f.Sync()
}

func seqRead(ctx context.Context, _ knobs, dir string) (float64, error) {
	f, err := os.Open(largePath(dir))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, total := make([]byte, 1<<20), 0
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		total += n
		if err == io.EOF {
			return float64(total) / (1 << 20), nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// random makes a workload of 4 KiB blocks at random places of the large file,
// past the kernel's cache (O_DIRECT), for as long as the knob says.
func random(do func(f *os.File, block []byte, at int64) (int, error)) func(context.Context, knobs, string) (float64, error) {
	const size = 4096
	return func(ctx context.Context, k knobs, dir string) (float64, error) {
		var (
			done   = make([]float64, k.threads)
			until  = time.Now().Add(k.randomFor)
			blocks = int64(k.sizeMiB) << 20 / size
		)
		err := parallel(ctx, k.threads, k.threads, func(i int) error {
			f, err := os.OpenFile(largePath(dir), os.O_RDWR|syscall.O_DIRECT, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			n, block := 0, alignedBlock(size)
			for time.Now().Before(until) && ctx.Err() == nil {
				if _, err := do(f, block, rand.Int64N(blocks)*size); err != nil {
					return err
				}
				n++
			}
			done[i] = float64(n)
			return nil
		})
		sum := 0.0
		for _, n := range done {
			sum += n
		}
		return sum, err
	}
}

// alignedBlock returns size bytes that begin at a multiple of size, a power of
// two, as O_DIRECT asks.
func alignedBlock(size int) []byte {
	b := make([]byte, 2*size)
	skip := size - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(size))
	return b[skip : skip+size]
}

// The tree's entries are counted within the measured time, in all three: that
// is how the yardstick does it whose figures these are compared with, and it
// weighs on every target alike.

func treeCopy(ctx context.Context, k knobs, dir string) (float64, error) {
	n := entriesOf(k.tree)
	return n, command(ctx, "cp", "-a", k.tree, filepath.Join(dir, "tree"))
}

// treeSearch reads every file of the copy to its end, as a search in vain does.
func treeSearch(ctx context.Context, k knobs, dir string) (float64, error) {
	err := command(ctx, "grep", "-rqF", "a string that no source file has \x01", filepath.Join(dir, "tree"))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // grep's way to say that nothing matched
	}
	return entriesOf(k.tree), err
}

func treeRemove(_ context.Context, k knobs, dir string) (float64, error) {
	return entriesOf(k.tree), os.RemoveAll(filepath.Join(dir, "tree"))
}

func entriesOf(root string) float64 {
	n := 0.0
	// What can't be read counts as one, as it does for cp.
	_ = filepath.WalkDir(root, func(string, fs.DirEntry, error) error { n++; return nil })
	return n
}

// parallel calls do for 0 … n-1 from so many threads, thread t taking t,
// t+threads, …; each thread stops at its first error, of which one is returned.
func parallel(ctx context.Context, threads, n int, do func(i int) error) error {
	var wg sync.WaitGroup
	failed := make(chan error, threads)
	for t := range threads {
		wg.Go(func() {
			for i := t; i < n; i += threads {
				err := ctx.Err()
				if err == nil {
					err = do(i)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed // nil if there is none
}
