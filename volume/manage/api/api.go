// Package api is what a daemon answers: the requests of the command line, the
// map feed of mounts and bricks, and the registration of bricks, as plain Go
// types, with the errors that carry GlusterFS's numbers. Types gain fields but never change
// the meaning of one; a reader ignores fields that it does not know.
package api

import (
	"context"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/spec"
)

// Daemon is what a daemon answers; the daemon implements it, its client
// (Dial) speaks it over gRPC, and tests of the command line fake it.
type Daemon interface {
	VolumeCreate(ctx context.Context, r CreateRequest) (Volume, error)
	VolumeStart(ctx context.Context, r VolumeRequest) (Volume, error)
	VolumeStop(ctx context.Context, r VolumeRequest) (Volume, error)
	VolumeDelete(ctx context.Context, r VolumeRequest) (Volume, error)
	// VolumeInfo returns the named volume, or all in order of name for "".
	VolumeInfo(ctx context.Context, r VolumeRequest) ([]Volume, error)
	// VolumeStatus returns the started named volume's state, or that of all started ones for "".
	VolumeStatus(ctx context.Context, r StatusRequest) ([]VolumeStatus, error)
	VolumeSet(ctx context.Context, r SetRequest) (SetReply, error)
	VolumeReset(ctx context.Context, r ResetRequest) (SetReply, error)
	// VolumeGet returns options with their values; Key "all" for every one.
	VolumeGet(ctx context.Context, r GetRequest) ([]OptionValue, error)
	// Status tells about the daemon itself; it answers without the configuration store too.
	Status(ctx context.Context) (Status, error)
	// WatchMap sends the volume's map at once and whenever it changes, until ctx
	// ends (nil), send fails, or the volume is deleted (Error, ErrNoVolume).
	WatchMap(ctx context.Context, volume string, send func(*spec.Map) error) error
	// AttachBrick registers a running brick process with its daemon and keeps it
	// registered until ctx ends; send gets the volume's map as by WatchMap.
	AttachBrick(ctx context.Context, b BrickHello, send func(*spec.Map) error) error

	Pool
	Sets
	Repair
}

// Error is a refused or failed request, for people and for programs.
type Error struct {
	Errno   int    // opErrno of --xml: ErrGeneric, ErrNoVolume, …
	Message string // one sentence, complete as gluster prints it after "failed: "
}

func (e *Error) Error() string { return e.Message }

// GlusterFS's numbers (opErrno).
const (
	ErrGeneric     = 30800
	ErrNoVolume    = 30806
	ErrUnreachable = 107

	// Mortar's own.

	ErrNotWanted = 30890 // a brick process that should not run
	ErrConflict  = 30891 // SwapSetState: the state is another already
	ErrUnknown   = 30892 // SwapSetState: it may have happened
	ErrInvalid   = 30893 // SwapSetState: the state is one that the set can't have
)

// CreateRequest asks for a new volume. Counts are 0 where not given.
type CreateRequest struct {
	Name       string
	Bricks     []string // HOST:/PATH
	Stripe     int
	Replica    int
	Arbiter    int
	Disperse   int
	Redundancy int
	Transport  string // "tcp" or ""
	Force      bool
}

// VolumeRequest names a volume.
type VolumeRequest struct {
	Name  string
	Force bool
}

// StatusRequest asks for the state of a volume's parts.
type StatusRequest struct {
	Name    string // "" all
	Brick   string // HOST:/PATH; "" all
	Detail  bool   // Disk of each brick is wanted
	Clients bool   // Clients of each brick are wanted
	Own     bool   // no other server is asked: Disk of the answering server's bricks only
}

// SetRequest sets options: Pairs[0] = Pairs[1] and so on.
type SetRequest struct {
	Name  string
	Pairs []string
	Force bool
}

// ResetRequest takes options back to their defaults; Option "" means all.
type ResetRequest struct {
	Name   string
	Option string
	Force  bool
}

// GetRequest asks for the value of Key, or "all", of the volume Name, or "all" for cluster-wide ones.
type GetRequest struct{ Name, Key string }

// SetReply carries what should be said beyond success.
type SetReply struct{ Notes []string }

// OptionValue is an option's value.
type OptionValue struct {
	Name, Value string
	Default     bool // not set: Value is the default
}

// State of a volume, with gluster's numbers.
type State int

// The states.
const (
	Created State = 0
	Started State = 1
	Stopped State = 2
)

func (s State) String() string { return [...]string{"Created", "Started", "Stopped"}[s] }

// Volume is a volume's definition.
type Volume struct {
	Name       string
	ID         string // UUID
	State      State
	Bricks     []Brick
	Stripe     int // 1: not striped
	Replica    int // 1: not replicated
	Arbiter    int
	Disperse   int // 0: not dispersed
	Redundancy int
	Options    []OptionValue // those that were set, in the order of setting
}

// Brick is a brick of a volume's definition.
type Brick struct {
	Name    string // HOST:/PATH
	Host    string
	Path    string
	PeerID  string // UUID of its daemon
	Arbiter bool
}

// VolumeStatus is the state of a volume's processes.
type VolumeStatus struct {
	Name   string
	ID     string
	Bricks []BrickStatus
}

// BrickStatus is the state of one brick process.
type BrickStatus struct {
	Brick
	Online  bool
	Port    int // 0: none
	PID     int // -1: none
	Disk    *Disk
	Clients []Client

	Set   volume.SetID
	Role  string // in a set of several members: RolePrimary …; "": it is the set
	Epoch uint64 // of such a set
}

// Roles of a brick in a set of several members.
const (
	RolePrimary = "primary"     // it serves the set
	RoleInSync  = "in sync"     // it has everything that was acknowledged
	RoleBehind  = "out of sync" // it has to be healed
)

// Disk is what lies under a brick.
type Disk struct {
	FileSystem, Device, MountOptions string
	BlockSize, InodeSize             int64 // bytes; InodeSize 0: not known
	Total, Free                      uint64
	Inodes, InodesFree               uint64
}

// Client is one connection of a mount to a brick.
type Client struct {
	Addr                    string
	BytesRead, BytesWritten uint64
	Version                 string
}

// Status is a daemon's own state.
type Status struct {
	ID       string // UUID
	Cluster  string // UUID of the pool that it belongs to
	Version  string
	PID      int
	Listen   string // HOST:PORT
	StateDir string
	Store    string // "" when the configuration store answers, else what is the matter
}

// BrickHello is how a brick process introduces itself.
type BrickHello struct {
	Volume string // name
	Brick  string // UUID of the brick
	PID    int
	Port   int
	Life   string // a random number of the process, the same in all its registrations; see spec.Member
}
