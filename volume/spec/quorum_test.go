package spec

import "testing"

func TestQuorumOf(t *testing.T) {
	options := func(kind, count string) map[string]string {
		m := map[string]string{}
		if kind != "" {
			m[quorumType] = kind
		}
		if count != "" {
			m[quorumCount] = count
		}
		return m
	}
	for _, c := range []struct {
		kind, count       string
		members, arbiters int
		want              int
	}{
		{"", "", 1, 0, 1}, {"", "", 2, 0, 1}, {"", "", 3, 0, 2}, {"", "", 3, 1, 2}, {"", "", 4, 0, 3}, {"", "", 5, 0, 3}, {"", "", 16, 0, 9},
		{"auto", "", 2, 0, 1}, {"auto", "1", 3, 0, 2},
		{"none", "", 3, 0, 1}, {"none", "3", 3, 1, 1},
		{"fixed", "1", 3, 0, 1}, {"fixed", "2", 2, 0, 2}, {"fixed", "3", 3, 1, 3}, {"fixed", "9", 3, 0, 3},
		{"fixed", "", 3, 0, 2}, {"fixed", "x", 3, 0, 2}, {"nonsense", "", 3, 0, 2},
	} {
		if got := QuorumOf(options(c.kind, c.count), c.members, c.arbiters); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	for _, c := range []struct {
		count   string
		members int
		want    string
	}{
		{"", 1, ""}, {"", 3, ""}, {"1", 3, ""}, {"3", 3, ""},
		{"1", 1, "Cannot set cluster.quorum-count for a non-replicate volume."},
		{"4", 3, "4 in cluster.quorum-count 4 is out of range [1 - 3]"},
	} {
		says(t, c.count, CheckVolume(options("", c.count), c.members), c.want)
	}
}
