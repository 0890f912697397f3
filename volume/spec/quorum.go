package spec

// Options of sets of several members.
const (
	quorumType  = "cluster.quorum-type"
	quorumCount = "cluster.quorum-count"
)

// QuorumOf is how many members of a set must stay in sync for it to acknowledge
// changes: a set never goes on with fewer. members counts all, the arbiters
// too, who can witness as well as any; options are those that were set.
//
// With cluster.quorum-type auto, which it is where it was not set, it is a majority, but for a set of two: there
// it is one, for the configuration store, not the members, says who that is. With none it is
// one, with fixed what cluster.quorum-count says, or as auto where that was not set.
func QuorumOf(options map[string]string, members, arbiters int) int {
	v := Values(options)
	switch options[quorumType] {
	case "none":
		return 1
	case "fixed":
		if n := v.Int(quorumCount); n > 0 {
			return int(min(n, int64(members)))
		}
	}
	if members-arbiters <= 2 && members <= 2 {
		return 1
	}
	return members/2 + 1
}

// Implied are the options that count as set in a volume with sets of several
// members, as `volume get` shows them, unless they were set.
func Implied(members int) []Setting {
	if members <= 1 {
		return nil
	}
	return []Setting{{quorumType, "auto"}}
}

// CheckVolume says what is wrong with a volume's options as a whole, for its
// sets of several members (1: each brick is a set of its own): nil, or an Invalid in GlusterFS's words.
func CheckVolume(options map[string]string, members int) error {
	value, ok := options[quorumCount]
	if !ok {
		return nil
	}
	if members <= 1 {
		return invalidf("Cannot set %s for a non-replicate volume.", quorumCount)
	}
	if n := Values(options).Int(quorumCount); n < 1 || n > int64(members) {
		return invalidf("%d in %s %s is out of range [1 - %d]", n, quorumCount, value, members)
	}
	return nil
}
