package api

import (
	"context"
	"time"
)

// Pool is what a daemon answers about the pool of servers that it belongs to.
// Any server's daemon answers for all.
type Pool interface {
	// PeerProbe takes the server at r.Host into the pool. It returns when that
	// server is usable. A Note is success without a change.
	PeerProbe(ctx context.Context, r PeerRequest) (PeerReply, error)
	// PeerDetach takes a server out of the pool. Force: also one that does not answer.
	PeerDetach(ctx context.Context, r PeerRequest) (PeerReply, error)
	// PoolList returns all servers of the pool: the others in order of joining,
	// then the one that answers (Self). It answers without a majority too.
	PoolList(ctx context.Context) ([]Peer, error)

	// ClusterStatus tells how the configuration store fares. It answers at once,
	// without a majority too.
	ClusterStatus(ctx context.Context) (Cluster, error)
	// ClusterRecover makes what this daemon knows the configuration of the
	// cluster, with itself as the only voter, after the majority of the voters was
	// lost for good. It is refused while a majority answers.
	ClusterRecover(ctx context.Context) (Cluster, error)
	// ClusterBackup returns all of the configuration as a versioned, checksummed JSON file.
	ClusterBackup(ctx context.Context) (Backup, error)
	// ClusterRestore makes a backup the configuration of a daemon that is alone and has no volumes.
	ClusterRestore(ctx context.Context, b Backup) (Cluster, error)

	// What daemons ask each other.

	// Identify tells who this daemon is, without the store too.
	Identify(ctx context.Context, r IdentifyRequest) (Identity, error)
	// Join makes this daemon a server of the pool. Doing it again does no harm.
	Join(ctx context.Context, r JoinRequest) (Identity, error)
	// Leave tells this daemon that it was taken out of the pool.
	Leave(ctx context.Context, r LeaveRequest) (Identity, error)
}

// Numbers of answers about peers (opErrno of --xml), GlusterFS's.
const (
	NoteLocalhost = 1 // PeerReply: "Probe on localhost not needed"
	NotePeer      = 2 // PeerReply: "Host … already in peer list"
	ErrNotPeer    = 2 // Error: "… is not part of cluster", "… is localhost"
)

// PeerRequest names a server: HOST or HOST:PORT, a name or an address.
type PeerRequest struct {
	Host  string
	Force bool
}

// PeerReply is the answer to a probe or detach that succeeded.
type PeerReply struct {
	Number int    // 0, NoteLocalhost, NotePeer
	Note   string // "" or what gluster says instead of "success"
}

// PeerState is where a server stands in the pool, with gluster's numbers.
type PeerState int

// The states.
const (
	PeerJoined  PeerState = 3 // in the pool
	PeerProbed  PeerState = 1 // the probe of it was begun and not finished
	PeerLeaving PeerState = 7 // the detach of it was begun and not finished
)

func (s PeerState) String() string {
	switch s {
	case PeerJoined:
		return "Peer in Cluster"
	case PeerProbed:
		return "Probe Sent to Peer"
	}
	return "Peer detach in progress"
}

// Peer is a server of the pool.
type Peer struct {
	ID        string   // UUID
	Host      string   // as it was probed; for a server that was never probed its own name
	Names     []string // other names and addresses by which it is known
	Listen    string   // HOST:PORT of its API, as other servers reach it
	State     PeerState
	Connected bool // it gave a sign of life within the last seconds
	Self      bool // it is the one that answers
	Release   string
}

// Roles of a server in the configuration store.
const (
	RoleAlone   = "alone"   // the only one: its store has no listener
	RoleVoter   = "voter"   // a member whose vote counts
	RoleLearner = "learner" // a member that is still catching up
	RoleClient  = "client"  // no member: it uses the voters
)

// Cluster is how the configuration store fares, as one daemon sees it.
type Cluster struct {
	ID          string          // UUID
	Incarnation uint64          // raised by each recover and restore; from 1
	Quorum      bool            // a majority of the voters answers: changes are possible
	Voters      int             // servers whose vote counts
	Answering   int             // those of them that answer
	Controller  string          // UUID of the daemon that adjusts the voters; "" none at the moment
	Trouble     string          // what is the matter and what to do, a sentence; "" if nothing is
	LastKnown   time.Time       // the answer is the last known state, of this time; zero: it is the present one
	Revision    int64           // of the configuration
	Servers     []ClusterServer // in order of joining
}

// ClusterServer is a server and its part in the store.
type ClusterServer struct {
	Peer
	Role    string // as it is: RoleVoter …
	Wanted  string // as it should be; the same unless a change is under way
	Answers bool   // its member of the store answers; of a client: as Connected
	Leader  bool   // its member leads the store
	Bricks  int    // bricks of volumes on it
}

// Backup is a configuration as `cluster backup` writes it to a file.
type Backup struct{ Data []byte }

// IdentifyRequest asks who a daemon is.
type IdentifyRequest struct {
	From    string // UUID of the daemon that asks; "" it is none
	Cluster string // UUID of its cluster
}

// Identity is who a daemon is.
type Identity struct {
	ID          string // UUID
	Cluster     string // UUID
	Incarnation uint64
	Release     string
	Major       int // of this protocol
	Minor       int
	Records     int    // version of the records that it writes
	Hostname    string // the machine's
	Port        int    // of its API
	Servers     int    // in its pool, itself included
	Volumes     int
	Role        string   // in the store: RoleVoter …
	Seen        string   // the address from which it sees the one that asks
	Known       bool     // the one that asks (From) is a server of its pool
	Quorum      bool     // a majority of its voters answers: Known and Endpoints are of now
	Endpoints   []string // of the voters, for clients of the store
}

// JoinRequest takes a daemon into a pool.
type JoinRequest struct {
	Server      string // UUID of the daemon that is asked, as it told it
	Cluster     string // UUID of the pool
	Incarnation uint64
	From        string   // UUID of the daemon that asks
	Endpoints   []string // of the voters
}

// LeaveRequest tells a daemon that it is in the pool no more.
type LeaveRequest struct {
	Server  string // UUID of the daemon that is told
	Cluster string // UUID of the pool
}
