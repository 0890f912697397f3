package posixtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mortarfs/mortar/fuse"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/test/posixtest"
)

// serveVariable tells a process of this test's binary to be a mount: its value
// is the directory, the first argument the options.
const serveVariable = "MORTAR_POSIXTEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveVariable); dir != "" {
		if err := serve(dir, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve mounts an in-memory model on dir, says so, and unmounts it at the end
// of its input.
func serve(dir, options string) error {
	o, err := fuse.ParseOptions(options, false)
	if err != nil {
		return err
	}
	s, err := fuse.Mount(context.Background(), fuse.Config{
		FS: model.New(), Dir: dir, Source: "host:/model", Options: o,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Unmount()
}

// mounted returns the path of a mount of a model, which another process serves:
// what fails there is the front end's, the model's or the suite's own, but no
// layer's in between.
func mounted(t *testing.T, options string) string {
	dir := local(t)
	cmd := exec.Command(os.Args[0], options)
	cmd.Env = append(os.Environ(), serveVariable+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Errorf("stop the mount: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the mount's process: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		t.Fatalf("the mount's process says %q, %v", line, err)
	}
	return dir
}

func TestMountedModel(t *testing.T) {
	for name, options := range map[string]string{
		"usual":        "acl",
		"direct":       "acl,direct-io-mode=enable",
		"no attribute": "acl,attribute-timeout=0,entry-timeout=0",
	} {
		t.Run(name, func(t *testing.T) {
			posixtest.Run(t, mounted(t, options), posixtest.Options{ACL: true, NoShift: true, Entries: 2000})
		})
	}
}

func TestMountedModelWithoutACL(t *testing.T) {
	posixtest.Run(t, mounted(t, ""), posixtest.Options{NoShift: true, Entries: 500})
}

// TestPath runs the suite on the directory that MORTAR_TEST_PATH names, with
// ACLs if the mount has them; without that variable there is nothing to do.
func TestPath(t *testing.T) {
	dir := os.Getenv("MORTAR_TEST_PATH")
	if dir == "" {
		return
	}
	acl := unix.Setxattr(dir, "system.posix_acl_default", nil, 0) != unix.EOPNOTSUPP
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	posixtest.Run(t, dir, posixtest.Options{ACL: acl, NoShift: st.Type == unix.FUSE_SUPER_MAGIC})
}
