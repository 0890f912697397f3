// Command bench compares Mortar with its peers on this machine: it brings up a Mortar
// volume, a GlusterFS volume of the same shape, a bare Go FUSE process and a
// plain directory, all with their data on one fresh ext4 of their own, runs the
// same workloads on each in turn, prints the table and keeps it in
// docs/benchmarks.md, and takes everything down again, after a failure or a
// signal too.
//
//	go run ./test/bench -shape dist3 -rounds 3
//	go run ./test/bench -only create-4k,rename -rounds 1 -peers ext4
//
// It needs root, and nothing else running if the figures are to mean anything.
// What to quote is the ratio of medians over three or more rounds: absolute
// rates of a virtual machine say little.
//
//	workload.go  what is measured
//	measure.go   rounds
//	peers.go     GlusterFS, the loopback, ext4;  mortar.go  Mortar itself
//	site.go      processes, mounts, the disk, and their undoing
//	report.go    medians, the table, the document
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	knobs
	shape, only, peers, mortar, out, on string
	rounds, diskGiB                     int
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.shape, "shape", "dist3", "the volumes' `shape`: "+strings.Join(slices.Sorted(maps.Keys(shapes)), ", "))
	f.IntVar(&o.rounds, "rounds", 3, "how many times each workload runs on each target")
	f.StringVar(&o.peers, "peers", "glusterfs,loopback,ext4", "whom to compare with, comma-separated")
	f.StringVar(&o.only, "only", "", "comma-separated `workloads` to run, with those whose files they need")
	f.StringVar(&o.mortar, "mortar", "bin/mortar", "the `binary` to measure; none: the peers alone, compared with the first of them")
	f.StringVar(&o.out, "out", "docs/benchmarks.md", "the `document` to keep the table in, if all workloads ran for three rounds or more")
	f.StringVar(&o.on, "on", "", "a `directory` to put all bricks in, instead of a fresh ext4 image")
	f.IntVar(&o.diskGiB, "disk", 12, "`GiB` of that image, which is sparse")
	f.IntVar(&o.files, "files", 2000, "files in the small-file workloads")
	f.IntVar(&o.threads, "threads", 4, "threads in the small-file and random workloads")
	f.IntVar(&o.sizeMiB, "size", 512, "`MiB` of the large file")
	f.DurationVar(&o.randomFor, "random-for", 3*time.Second, "how long each random workload runs")
	f.StringVar(&o.tree, "tree", "/usr/local/go/src", "a `directory` of real files to copy, search and remove")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("what is %q? (bench -h lists the flags)", f.Arg(0))
	}
	if _, ok := shapes[o.shape]; !ok {
		return o, fmt.Errorf("no shape %q; there are %s", o.shape, strings.Join(slices.Sorted(maps.Keys(shapes)), ", "))
	}
	for name := range strings.SplitSeq(o.peers, ",") {
		if peers[name] == nil && name != "" {
			return o, fmt.Errorf("no peer %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(peers)), ", "))
		}
	}
	if o.rounds < 1 || o.files < 1 || o.threads < 1 || o.sizeMiB < 1 || o.diskGiB < 1 {
		return o, errors.New("counts and sizes begin at 1")
	}
	return o, nil
}

// run is the whole command.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	wanted, err := choose(workloads(), o.only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("it mounts and drops caches: run it as root")
	}
	s, err := newSite(progress)
	if err != nil {
		return err
	}
	defer s.takeDown()
	r := report{shape: o.shape, when: time.Now(), machine: machine(), knobs: o.knobs, rounds: o.rounds, workloads: wanted}
	if r.disk, err = prepareDisk(ctx, s, o); err != nil {
		return err
	}
	if r.targets, err = bringAll(ctx, s, o); err != nil {
		return err
	}
	if r.rates, err = measureOrLeave(ctx, s, o, r); err != nil {
		return err
	}
	fmt.Fprint(out, r.markdown())
	if o.only != "" || o.rounds < 3 {
		s.say("a short run: %s is left as it was", o.out)
		return nil
	}
	return r.write(o.out)
}

// prepareDisk makes the place for all bricks and says what it is.
func prepareDisk(ctx context.Context, s *site, o options) (string, error) {
	if o.on == "" {
		return fmt.Sprintf("one fresh ext4 image of %d GiB on a loop device", o.diskGiB), s.mountDisk(ctx, o.diskGiB)
	}
	dir, err := os.MkdirTemp(o.on, "mortar-bench-")
	if err != nil {
		return "", err
	}
	s.disk = dir
	s.later("remove "+dir, func(context.Context) error { return removeUnmounted(dir) })
	return o.on, nil
}

// bringAll brings up Mortar and its peers, in the order of the table's columns.
func bringAll(ctx context.Context, s *site, o options) ([]target, error) {
	var all []target
	bring := func(name string, up func() (target, error)) error {
		s.say("bringing up %s", name)
		t, err := up()
		if err != nil {
			return fmt.Errorf("bringing up %s: %w", name, err)
		}
		if t.fstype != "" && mountType(t.dir) != t.fstype {
			return fmt.Errorf("bringing up %s: %s is of type %q, not %q", name, t.dir, mountType(t.dir), t.fstype)
		}
		all = append(all, t)
		return nil
	}
	if o.mortar != "none" {
		if err := bring("mortar", func() (target, error) { return bringMortar(ctx, s, o.mortar, o.shape) }); err != nil {
			return nil, err
		}
	}
	for name := range strings.SplitSeq(o.peers, ",") {
		if name == "" {
			continue
		}
		if err := bring(name, func() (target, error) { return peers[name](ctx, s, o.shape) }); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("nothing to measure")
	}
	return all, nil
}

// measureOrLeave measures; when ctx ends while a workload is stuck in a file
// system, taking the site down is what makes it return.
func measureOrLeave(ctx context.Context, s *site, o options, r report) (rates, error) {
	type outcome struct {
		rates rates
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		all, err := measure(ctx, s, o.knobs, o.rounds, r.workloads, r.targets)
		done <- outcome{all, err}
	}()
	select {
	case got := <-done:
		return got.rates, got.err
	case <-ctx.Done():
	}
	s.say("stopping")
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		s.takeDown()
		<-done
	}
	return nil, ctx.Err()
}
