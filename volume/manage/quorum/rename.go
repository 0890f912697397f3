package quorum

import (
	"context"
	"fmt"
)

// Rename gives the daemon another UUID, the name of the members that it makes
// from now on: a server that takes the place of one whose state was lost. A
// member that others know keeps its name, so only a daemon that is alone or a
// client can be renamed.
func (s *Store) Rename(ctx context.Context, id string) error {
	done, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if st, _ := s.now(); st.Mode == modeVoter {
		return fmt.Errorf("%w: this server is a member of the pool's store", ErrMode)
	}
	s.cfg.ID = id
	return nil
}
