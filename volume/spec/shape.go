package spec

// Shape is what is asked of a new volume's sets; counts are 0 where not given.
type Shape struct {
	Bricks     int // number of bricks
	Stripe     int // bricks over which a file is cut
	Replica    int // bricks that hold the same, an arbiter included
	Arbiter    int // of these, how many hold names and attributes only
	Disperse   int // fragments of a set
	Redundancy int // fragments that may be lost
}

// ReplicaMax is how many members a set can have, arbiters included. Each change
// goes to all of them, side by side.
const ReplicaMax = 16

// Check says what is wrong with the counts, in GlusterFS's words. It knows
// nothing of what this version can serve: see Served.
func (s Shape) Check() error {
	switch {
	case s.Bricks <= 0:
		return Invalid("No bricks specified")
	case s.Replica < 0 || s.Replica == 1:
		return Invalid("replica count should be greater than 1")
	case s.Replica > ReplicaMax:
		return invalidf("replica count should be at most %d", ReplicaMax)
	case s.Stripe < 0 || s.Stripe == 1:
		return Invalid("stripe count should be greater than 1")
	case s.Arbiter != 0 && (s.Arbiter != 1 || s.Replica != 2 && s.Replica != 3):
		return Invalid("For arbiter configuration, replica count must be 2 and arbiter count must be 1. " +
			"The 3rd brick of the replica will be the arbiter")
	case s.Replica > 0 && s.Disperse != 0:
		return Invalid("replicated-dispersed volume is not supported")
	}
	if err := s.checkDisperse(); err != nil {
		return err
	}
	replica := s.Members()
	set := max(s.Stripe, 1) * replica
	switch {
	case s.Bricks%replica != 0:
		return Invalid("number of bricks is not a multiple of replica count")
	case s.Stripe > 0 && s.Bricks%s.Stripe != 0:
		return Invalid("number of bricks is not a multiple of stripe count")
	case s.Bricks%set != 0:
		return invalidf("number of bricks given %d is not a multiple of the product of stripe and replica count %d", s.Bricks, set)
	}
	return nil
}

func (s Shape) checkDisperse() error {
	switch {
	case s.Disperse == 0 && s.Redundancy == 0:
		return nil
	case s.Disperse < 3:
		return Invalid("disperse count must be greater than 2")
	case s.Redundancy < 0 || s.Redundancy > 0 && s.Redundancy > (s.Disperse-1)/2:
		return invalidf("redundancy must be greater than or equal to 1 and less than %d for a disperse %d volume",
			(s.Disperse+1)/2, s.Disperse)
	case s.Bricks%s.Disperse != 0:
		return Invalid("number of bricks is not a multiple of disperse count")
	}
	return nil
}

// Members is how many bricks hold the same: "replica 2 arbiter 1" and "replica 3
// arbiter 1" both say two with contents and one without.
func (s Shape) Members() int {
	if s.Arbiter == 1 {
		return 3
	}
	return max(s.Replica, 1)
}

// Served says what this version can't serve of a shape that is right in itself: nil, or an Invalid.
func (s Shape) Served() error {
	switch {
	case s.Disperse != 0 || s.Redundancy != 0:
		return Invalid("This version of Mortar makes distributed and replicated volumes: leave out disperse and redundancy.")
	case s.Stripe != 0:
		return Invalid("This version of Mortar makes distributed and replicated volumes: leave out stripe.")
	}
	return nil
}

// CheckBricks parses every brick of a new volume and refuses one that is named
// twice, or lies within another on the same host. It answers with the bricks' canonical names.
func CheckBricks(bricks []string) ([]string, error) {
	type brick struct{ host, path string }
	var seen []brick
	var names []string
	for _, b := range bricks {
		host, path, err := ParseBrick(b)
		if err != nil {
			return nil, err
		}
		for _, o := range seen {
			switch {
			case o.host != host:
			case o.path == path:
				return nil, invalidf("Found duplicate exports %s", b)
			case Within(path, o.path) || Within(o.path, path):
				return nil, invalidf("Brick: %s not available. Brick may be containing or be contained by an existing brick.", b)
			}
		}
		seen = append(seen, brick{host, path})
		names = append(names, JoinBrick(host, path))
	}
	return names, nil
}

// Within reports whether the absolute, clean path is dir or lies below it.
func Within(path, dir string) bool {
	return path == dir || dir == "/" || len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}
