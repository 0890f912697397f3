package realwork

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// build builds and runs a program whose module, work files and result are on
// the mount; the compiled library comes from the machine's own cache.
func build(t *testing.T, w *work, dir string) {
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/hello\n\ngo 1.26\n"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o755))
	var imports, calls strings.Builder
	for i := range 30 {
		name := fmt.Sprintf("part%d", i)
		d := filepath.Join(dir, name)
		must(t, os.Mkdir(d, 0o755))
		must(t, os.WriteFile(filepath.Join(d, "part.go"), fmt.Appendf(nil, "package %s\n\nimport \"strconv\"\n\nfunc N() string { return strconv.Itoa(%d) }\n", name, i), 0o644))
		fmt.Fprintf(&imports, "\t\"example.com/hello/%s\"\n", name)
		fmt.Fprintf(&calls, "\tfmt.Println(%s.N())\n", name)
	}
	main := "package main\n\nimport (\n\t\"fmt\"\n" + imports.String() + ")\n\nfunc main() {\n" + calls.String() + "}\n"
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(main), 0o644))
	env := []string{"GOTMPDIR=" + filepath.Join(dir, "tmp"), "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0"}
	for _, name := range []string{"hello", "hello", "again"} { // the second over the first
		tool(t, dir, env, "go", "build", "-o", name, ".")
		var want strings.Builder
		for i := range 30 {
			fmt.Fprintln(&want, i)
		}
		if out := tool(t, dir, nil, filepath.Join(dir, name)); out != want.String() {
			t.Fatalf("the program prints %q", out)
		}
	}
	tool(t, dir, env, "go", "vet", "./...")
	a, err := checksum(filepath.Join(dir, "hello"))
	must(t, err)
	b, err := checksum(filepath.Join(dir, "again"))
	must(t, err)
	if a != b {
		t.Error("two builds of the same sources differ")
	}
}

// useGit makes a repository, works in it, clones it and has all of it checked.
func useGit(t *testing.T, w *work, dir string) {
	env := []string{
		"HOME=" + dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	repo := filepath.Join(dir, "repo")
	git := func(in string, args ...string) string { return tool(t, in, env, "git", args...) }
	git(dir, "init", "-q", "-b", "main", repo)
	tool(t, dir, nil, "cp", "-a", filepath.Join(goroot(t), "src", w.trees[0]), filepath.Join(repo, "tree"))
	git(repo, "add", "-A")
	git(repo, "commit", "-qm", "first")
	clean := func(in string) {
		t.Helper()
		if out := git(in, "status", "--porcelain"); out != "" {
			t.Fatalf("git status in %s:\n%s", filepath.Base(in), tail(out))
		}
	}
	clean(repo)
	git(repo, "checkout", "-qb", "branch")
	for i := range 5 {
		must(t, os.WriteFile(filepath.Join(repo, fmt.Sprint("file", i)), fmt.Append(nil, i), 0o644))
		git(repo, "add", "-A")
		git(repo, "commit", "-qm", fmt.Sprint("commit ", i))
	}
	git(repo, "mv", "tree", "renamed")
	git(repo, "commit", "-qm", "rename")
	git(repo, "checkout", "-q", "main")
	clean(repo)
	git(repo, "merge", "-q", "--no-ff", "-m", "merge", "branch")
	git(repo, "gc", "-q", "--prune=now")
	git(repo, "fsck", "--strict", "--full")
	for i, args := range [][]string{{"clone", "-q", "repo", "linked"}, {"clone", "-q", "--no-hardlinks", "repo", "copied"}, {"clone", "-q", "file://" + repo, "sent"}} {
		git(dir, args...)
		clone := filepath.Join(dir, args[len(args)-1])
		git(clone, "fsck", "--strict", "--full")
		clean(clone)
		if a, b := git(repo, "rev-parse", "HEAD^{tree}"), git(clone, "rev-parse", "HEAD^{tree}"); a != b {
			t.Errorf("clone %d has tree %s, want %s", i, b, a)
		}
		tool(t, dir, nil, "diff", "-r", "--no-dereference", "--exclude=.git", repo, clone)
	}
}

// verifyWithFio writes patterns and reads them back, with several ways of I/O.
func verifyWithFio(t *testing.T, w *work, dir string) {
	for _, job := range []struct {
		name string
		args []string
	}{
		{"random", []string{"--rw=randwrite", "--bs=4k", "--ioengine=psync"}},
		{"mixed", []string{"--rw=randrw", "--bsrange=512-128k", "--ioengine=psync", "--fsync=64"}},
		{"sequential", []string{"--rw=write", "--bs=1m", "--ioengine=psync", "--end_fsync=1"}},
		{"direct", []string{"--rw=randwrite", "--bs=16k", "--ioengine=psync", "--direct=1"}},
		{"mapped", []string{"--rw=randwrite", "--bs=4k", "--ioengine=mmap"}},
	} {
		args := append([]string{
			"--name=" + job.name, "--directory=" + dir, "--size=" + w.fioSize, "--numjobs=2", "--thread",
			"--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--group_reporting", "--randseed=1", "--fallocate=none",
		}, job.args...)
		if out := tool(t, os.TempDir(), nil, "fio", args...); strings.Contains(out, "verify: bad") || !strings.Contains(out, "err= 0") {
			t.Errorf("fio %s:\n%s", job.name, tail(out))
		}
	}
}
