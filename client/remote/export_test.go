package remote

// SpeaksVersion has the Remote believe, until it connects again, that its brick speaks that version.
func (r *Remote) SpeaksVersion(version uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.version = version
}

// Debts returns how many owners the brick has still to be told of that are to have no locks.
func Debts(r *Remote) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.debts)
}
