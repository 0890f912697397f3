package manage

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mortarfs/mortar/volume"
	"github.com/mortarfs/mortar/volume/manage/api"
	"github.com/mortarfs/mortar/volume/spec"
)

// Limits of what is stored.
const (
	recordVersion = 1
	replicatedV   = 2       // of a volume with sets of several members, which earlier releases must not touch
	recordMax     = 1 << 20 // bytes of a record
	bricksMax     = 4096    // bricks of a volume; set IDs are 16 bits
	volumesMax    = 4096    // volumes of a cluster
)

// The keys. See the package comment.
const (
	root          = "mortar/1/"
	serversPrefix = root + "servers/"
	volumesPrefix = root + "volumes/"
	havePrefix    = root + "have/"
	setsPrefix    = root + "sets/"
	tasksPrefix   = root + "tasks/"
	alivePrefix   = root + "alive/"
	optionsKey    = root + "options"
	epochKey      = root + "epoch"
	controlKey    = root + "controller"
)

func serverKey(id string) string          { return serversPrefix + id }
func aliveKey(id string) string           { return alivePrefix + id }
func volumeKey(name string) string        { return volumesPrefix + name }
func taskKey(name string) string          { return tasksPrefix + name }
func haveKey(volume, brick string) string { return havePrefix + volume + "/" + brick }

func setKey(id string, set volume.SetID) string {
	return setsPrefix + id + "/" + strconv.Itoa(int(set))
}

// phase says where in its life a volume is.
type phase string

const (
	settled  phase = ""         // it exists
	checking phase = "checking" // its bricks' directories are being looked at; nobody sees it yet
	creating phase = "creating" // its bricks are being made; nobody sees it yet
	made     phase = "made"     // of a brick alone: it waits to take another's place
	undoing  phase = "undoing"  // they are being unmade; nobody sees it
	deleting phase = "deleting" // it goes; seen as what it was until it is gone
)

// volumeRecord is a volume.
type volumeRecord struct {
	V          int            `json:"v"`
	Name       string         `json:"name"`
	ID         string         `json:"id"` // UUID
	Phase      phase          `json:"phase,omitempty"`
	State      api.State      `json:"state"`
	Run        bool           `json:"run,omitempty"`     // its bricks should run
	Force      bool           `json:"force,omitempty"`   // of the create under way: use directories that another volume used
	Generation uint64         `json:"generation"`        // of what is wanted of the bricks
	Replica    int            `json:"replica,omitempty"` // members of each set, arbiters included; 0: one
	Arbiter    int            `json:"arbiter,omitempty"` // of these, how many hold no contents
	Bricks     []brickRecord  `json:"bricks"`
	Coming     []brickRecord  `json:"coming,omitempty"` // being made to take others' places; nobody sees them
	RootHome   volume.SetID   `json:"rootHome"`
	NextSet    volume.SetID   `json:"nextSet"`           // never given yet
	Layouts    []spec.Layout  `json:"layouts"`           // newest first
	Options    []spec.Setting `json:"options,omitempty"` // in order of setting
	Created    time.Time      `json:"created"`
}

// brickRecord is a brick of a volume's definition.
type brickRecord struct {
	ID     string       `json:"id"`     // UUID
	Server string       `json:"server"` // UUID of its daemon
	Host   string       `json:"host"`   // as it was written
	Path   string       `json:"path"`
	Set    volume.SetID `json:"set"`
	Made   bool         `json:"made,omitempty"` // the create made the directory

	Arbiter bool `json:"arbiter,omitempty"` // it holds no contents
	Out     bool `json:"out,omitempty"`     // it is taken out of service: it does not run, though the volume does

	// Of one that is coming:
	Phase    phase  `json:"phase,omitempty"`    // checking, creating, made or undoing
	Replaces string `json:"replaces,omitempty"` // UUID of the brick that is to be put into service again at the same place, if its data are there
	Reuse    bool   `json:"reuse,omitempty"`    // the directory may be one that another brick left
}

func (b brickRecord) name() string { return spec.JoinBrick(b.Host, b.Path) }

// options returns the options that were set, by name.
func (v *volumeRecord) options() map[string]string {
	m := make(map[string]string, len(v.Options))
	for _, o := range v.Options {
		m[o.Name] = o.Value
	}
	return m
}

// visible reports whether anybody but the daemons should see the volume.
func (v *volumeRecord) visible() bool { return v != nil && (v.Phase == settled || v.Phase == deleting) }

// clone returns a copy whose slices can be changed.
func (v *volumeRecord) clone() *volumeRecord {
	c := *v
	c.Bricks = append([]brickRecord(nil), v.Bricks...)
	c.Coming = append([]brickRecord(nil), v.Coming...)
	c.Layouts = append([]spec.Layout(nil), v.Layouts...)
	c.Options = append([]spec.Setting(nil), v.Options...)
	return &c
}

// condition is what a brick is, or should be.
type condition string

const (
	absent  condition = ""        // nothing was done yet
	ready   condition = "ready"   // the directory is the brick's; no process
	running condition = "running" // its process is attached
	down    condition = "down"    // it should run and does not; it is tried again
	failed  condition = "failed"  // what was wanted did not succeed: Error
	erased  condition = "erased"  // what the create made is gone
)

// phaseOf is where in its life a brick is: as its volume, or by itself where it
// comes to a volume that exists.
func (v *volumeRecord) phaseOf(b brickRecord) phase {
	if b.Phase != settled {
		return b.Phase
	}
	return v.Phase
}

// want derives from the volume's record what a brick of it should be.
func (v *volumeRecord) want(b brickRecord) condition {
	switch p := v.phaseOf(b); {
	case p == undoing:
		return erased
	case p == settled && v.Run && !b.Out:
		return running
	}
	return ready
}

// all are the volume's bricks and those that are coming.
func (v *volumeRecord) all() []brickRecord {
	if len(v.Coming) == 0 {
		return v.Bricks
	}
	return slices.Concat(v.Bricks, v.Coming)
}

// place returns where a brick is among the volume's, -1: nowhere.
func (v *volumeRecord) place(id string) int {
	return slices.IndexFunc(v.Bricks, func(b brickRecord) bool { return b.ID == id })
}

// haveRecord is what a brick is, written by its own daemon's keeper.
type haveRecord struct {
	V           int       `json:"v"`
	Generation  uint64    `json:"generation"` // of the volume, that this answers
	Is          condition `json:"is"`
	Error       string    `json:"error,omitempty"` // a sentence, where Is is failed or down
	PID         int       `json:"pid,omitempty"`
	Port        int       `json:"port,omitempty"`
	Addr        string    `json:"addr,omitempty"`        // HOST:PORT for clients
	Life        string    `json:"life,omitempty"`        // of the process, as it registered; see spec.Member
	Ended       string    `json:"ended,omitempty"`       // life of the last process that was seen to end
	Incarnation uint64    `json:"incarnation,omitempty"` // starts of the process so far
	Missing     bool      `json:"missing,omitempty"`     // found by the check of a create: the directory is to be made
	Kept        bool      `json:"kept,omitempty"`        // found by the check of a reset: what was there is there still
	Lost        bool      `json:"lost,omitempty"`        // the directory does not hold the brick any more
}

// setRecord says who serves a set of several members. Its members change it: see SwapSetState.
type setRecord struct {
	V     int           `json:"v"`
	State spec.SetState `json:"state"`
	By    string        `json:"by,omitempty"` // ID of the request that made it so
}

// The kinds of tasks.
const (
	kindCreate = "create"
	kindStart  = "start"
	kindStop   = "stop"
	kindDelete = "delete"

	kindReplace = "replace-brick"
	kindReset   = "reset-brick start"
	kindRenew   = "reset-brick commit"
)

// taskRecord is a change under way.
type taskRecord struct {
	V        int        `json:"v"`
	ID       string     `json:"id"` // UUID
	Kind     string     `json:"kind"`
	Volume   string     `json:"volume"`   // name
	VolumeID string     `json:"volumeId"` // UUID
	Server   string     `json:"server"`   // UUID of the daemon that carries it out
	Boot     string     `json:"boot"`     // which life of that daemon
	Force    bool       `json:"force,omitempty"`
	Away     []string   `json:"away,omitempty"`    // servers (UUIDs) that were not there at the begin: a forced change does without them
	Brick    string     `json:"brick,omitempty"`   // UUID of the brick that it is about
	New      string     `json:"new,omitempty"`     // UUID of the one that comes for it
	WasOut   bool       `json:"wasOut,omitempty"`  // the brick was out of service before
	Swapped  bool       `json:"swapped,omitempty"` // that has its place
	Undo     *api.Error `json:"undo,omitempty"`    // it is being undone: why
	Begun    time.Time  `json:"begun"`
}

// clusterRecord holds the cluster-wide options.
type clusterRecord struct {
	V       int            `json:"v"`
	Options []spec.Setting `json:"options"`
}

// decode reads a record. what names it for people.
func decode(b []byte, what string, into any) error {
	if len(b) > recordMax {
		return fmt.Errorf("the record %s has %d bytes, more than %d", what, len(b), recordMax)
	}
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("the record %s is damaged: %w", what, err)
	}
	if head.V != recordVersion && head.V != replicatedV {
		return fmt.Errorf("the record %s has version %d, this release knows %d", what, head.V, replicatedV)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("the record %s is damaged: %w", what, err)
	}
	return nil
}

// encode writes a record; they are all of types that JSON can hold.
func encode(r any) string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// splitSet takes a set record's key apart.
func splitSet(key string) (id string, set volume.SetID) {
	id, n, _ := strings.Cut(strings.TrimPrefix(key, setsPrefix), "/")
	i, _ := strconv.ParseUint(n, 10, 16) // 0, which is no set, if it is no number
	return id, volume.SetID(i)
}

// splitHave takes a have record's key apart.
func splitHave(key string) (volume, brick string, ok bool) {
	return strings.Cut(strings.TrimPrefix(key, havePrefix), "/")
}
