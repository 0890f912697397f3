package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A target is a directory to measure, and what is behind it.
type target struct {
	name   string // short: a column's heading
	about  string // with version, for the record
	dir    string // where the workloads may write
	fstype string // what the kernel must call the mount at dir, so that nothing is measured in vain; "": any
}

// rates holds units per second: of a workload, on a target, one a round.
type rates map[string]map[string][]float64

func (r rates) add(workload, target string, rate float64) {
	if r[workload] == nil {
		r[workload] = map[string][]float64{}
	}
	r[workload][target] = append(r[workload][target], rate)
}

// measure runs the wanted workloads on all targets in turn, round after round,
// so that a machine whose speed drifts disturbs every target alike.
func measure(ctx context.Context, s *site, k knobs, rounds int, wanted []workload, targets []target) (rates, error) {
	all := rates{}
	for round := range rounds {
		for _, w := range wanted {
			line := fmt.Sprintf("round %d of %d  %-22s", round+1, rounds, w.name)
			for _, t := range targets {
				rate, err := once(ctx, k, w, t, filepath.Join(t.dir, fmt.Sprintf("bench-%d", round)))
				if err != nil {
					return nil, fmt.Errorf("%s on %s: %w", w.name, t.name, err)
				}
				all.add(w.name, t.name, rate)
				line += fmt.Sprintf("  %s %s", t.name, number(rate))
			}
			s.say("%s", line)
		}
		for _, t := range targets {
			if err := os.RemoveAll(filepath.Join(t.dir, fmt.Sprintf("bench-%d", round))); err != nil {
				return nil, fmt.Errorf("cleaning up on %s: %w", t.name, err)
			}
		}
	}
	return all, nil
}

// once runs one workload on one target and returns its rate in units per second.
func once(ctx context.Context, k knobs, w workload, t target, dir string) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	if w.forget != warm {
		syscall.Sync()
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte(w.forget), 0); err != nil {
			return 0, fmt.Errorf("can't make the caches cold: %w", err)
		}
	}
	start := time.Now()
	units, err := w.run(ctx, k, dir)
	elapsed := time.Since(start).Seconds()
	if err == nil {
		err = ctx.Err()
	}
	return units / elapsed, err
}

// choose returns the named workloads and those whose leavings they need, in
// their order; all for none named.
func choose(all []workload, only string) ([]workload, error) {
	if only == "" {
		return all, nil
	}
	want := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		for name != "" {
			i := slices.IndexFunc(all, func(w workload) bool { return w.name == name })
			if i < 0 {
				return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(names(all), ", "))
			}
			want[name] = true
			name = all[i].needs
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(w workload) bool { return !want[w.name] }), nil
}

func names(all []workload) []string {
	var s []string
	for _, w := range all {
		s = append(s, w.name)
	}
	return s
}
