package manage

import "testing"

func TestProcessors(t *testing.T) {
	for _, c := range []struct{ cpus, bricks, want int }{
		{2, 0, 2}, {2, 1, 2}, {2, 2, 2}, {2, 3, 1}, {2, 60, 1}, {8, 1, 8}, {8, 3, 5}, {64, 12, 10}, {1, 1, 1},
	} {
		if got := processors(c.cpus, c.bricks); got != c.want {
			t.Errorf("%d processors, %d bricks: %d, want %d", c.cpus, c.bricks, got, c.want)
		}
	}
}
