package api

import (
	"context"
	"time"

	"github.com/mortarfs/mortar/volume"
)

// Repair is what a daemon answers about sets of several members that have lost
// one, or have one again. Any server's daemon answers for all.
type Repair interface {
	// VolumeHeal has the members of a volume healed that are out of sync, which the
	// sets do by themselves unless that is switched off (cluster.self-heal-daemon).
	// Full: all there is is compared. It returns when the primaries have begun.
	VolumeHeal(ctx context.Context, r HealRequest) (HealInfo, error)
	// VolumeHealInfo tells what is to be healed. Of a set whose primary does not
	// answer that is not known.
	VolumeHealInfo(ctx context.Context, r VolumeRequest) (HealInfo, error)
	// VolumeReplaceBrick puts a new brick in the place of one, be that there or lost
	// for good. It returns when the new one runs; the set heals it then.
	VolumeReplaceBrick(ctx context.Context, r BrickRequest) (Volume, error)
	// VolumeResetBrick takes a brick out of service (With is "") or puts the one at
	// the same place into service again: the same, if its data are there, otherwise a new one.
	VolumeResetBrick(ctx context.Context, r BrickRequest) (Volume, error)
}

// HealRequest asks for healing.
type HealRequest struct {
	Name string // of the volume
	Full bool
}

// BrickRequest is about one brick of a volume.
type BrickRequest struct {
	Name  string // of the volume
	Brick string // HOST:/PATH
	With  string // HOST:/PATH
	Force bool
}

// HealInfo is how far the bricks of a volume's sets of several members are.
type HealInfo struct {
	Name   string
	ID     string
	Bricks []BrickHeal
}

// BrickHeal is how far a brick is.
type BrickHeal struct {
	Brick
	Set       volume.SetID
	Role      string // RolePrimary …
	Connected bool   // its process runs, and its set's primary speaks with it
	Known     bool   // the primary has told what follows

	State   string   // what the primary does with it, a word: "" nothing
	Pending uint64   // entries in which it may differ from what was acknowledged
	Entries []string // some of them, as paths of the volume where they are known

	HealedFiles uint64    // of the healing under way, or the last
	HealedBytes uint64    //
	Total       uint64    // entries that this healing has to look at, as far as is known
	Started     time.Time // of it; zero: there was none
	Ends        time.Time // expected; zero: not known, or none is under way
	LastError   string    // why the last attempt failed, a sentence; "": it did not
}

// VolumeHeal implements Repair.
func (c *Conn) VolumeHeal(ctx context.Context, r HealRequest) (HealInfo, error) {
	return call[HealInfo](ctx, c, "VolumeHeal", r)
}

// VolumeHealInfo implements Repair.
func (c *Conn) VolumeHealInfo(ctx context.Context, r VolumeRequest) (HealInfo, error) {
	return call[HealInfo](ctx, c, "VolumeHealInfo", r)
}

// VolumeReplaceBrick implements Repair.
func (c *Conn) VolumeReplaceBrick(ctx context.Context, r BrickRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeReplaceBrick", r)
}

// VolumeResetBrick implements Repair.
func (c *Conn) VolumeResetBrick(ctx context.Context, r BrickRequest) (Volume, error) {
	return call[Volume](ctx, c, "VolumeResetBrick", r)
}
