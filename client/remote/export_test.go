package remote

// SpeaksVersion has the Remote believe, until it connects again, that its brick speaks that version.
func (r *Remote) SpeaksVersion(version uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.version = version
}
