package cli

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

// The answers of --json: one object a command, in these shapes. They gain
// fields; what a field means does not change. A failure is an object with
// "error", and a non-zero exit code.

type jsonFailure struct {
	Error jsonError `json:"error"`
}

type jsonError struct {
	Errno   int    `json:"errno"` // gluster's opErrno
	Message string `json:"message"`
}

// volume list
type jsonNames struct {
	Volumes []string `json:"volumes"`
}

// volume create, start, stop, delete
type jsonOneVolume struct {
	Volume jsonVolume `json:"volume"`
}

// volume info
type jsonVolumes struct {
	Volumes []jsonVolume `json:"volumes"`
}

type jsonVolume struct {
	Name       string       `json:"name"`
	ID         string       `json:"id"`
	Status     string       `json:"status"` // Created, Started, Stopped
	Type       string       `json:"type"`   // as in `volume info`
	Transport  string       `json:"transport"`
	Stripe     int          `json:"stripe"`
	Replica    int          `json:"replica"`
	Arbiter    int          `json:"arbiter"`
	Disperse   int          `json:"disperse"`
	Redundancy int          `json:"redundancy"`
	Bricks     []jsonBrick  `json:"bricks"`
	Options    []jsonOption `json:"options"` // newest first
}

type jsonBrick struct {
	Name    string `json:"name"` // HOST:/PATH
	Host    string `json:"host"`
	Path    string `json:"path"`
	PeerID  string `json:"peer_id"`
	Arbiter bool   `json:"arbiter"`
}

// volume get; in volume info without "default"
type jsonOptions struct {
	Options []jsonOption `json:"options"`
}

type jsonOption struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default bool   `json:"default,omitempty"` // not set
}

// volume set, reset
type jsonDone struct {
	Notes []string `json:"notes"`
}

// volume heal, and its info and statistics
type jsonHeal struct {
	Name   string          `json:"name"`
	ID     string          `json:"id"`
	Bricks []jsonBrickHeal `json:"bricks"`
}

type jsonBrickHeal struct {
	jsonBrick
	Set         int        `json:"set"`
	Role        string     `json:"role"`      // primary, in sync, out of sync
	Connected   bool       `json:"connected"` // the set's primary speaks with it
	Known       bool       `json:"known"`     // the primary has told what follows
	State       string     `json:"state"`     // in sync, absent, healing, full heal
	Pending     uint64     `json:"pending"`   // entries that it lacks
	Entries     []string   `json:"entries"`   // the first of them
	SplitBrain  int        `json:"split_brain"`
	HealedFiles uint64     `json:"healed_files"`
	HealedBytes uint64     `json:"healed_bytes"`
	Total       uint64     `json:"total"`             // entries of this healing; 0: not known
	Started     *time.Time `json:"started,omitempty"` // of it
	Ends        *time.Time `json:"ends,omitempty"`    // expected
	LastError   string     `json:"last_error,omitempty"`
}

// volume status
type jsonStatuses struct {
	Volumes []jsonStatus `json:"volumes"`
}

type jsonStatus struct {
	Name   string            `json:"name"`
	ID     string            `json:"id"`
	Bricks []jsonBrickStatus `json:"bricks"`
}

type jsonBrickStatus struct {
	jsonBrick
	Online  bool         `json:"online"`
	Port    int          `json:"port"` // 0: none
	PID     int          `json:"pid"`  // -1: none
	Set     int          `json:"set,omitempty"`
	Role    string       `json:"role,omitempty"`  // in a replica set: primary, in sync, out of sync
	Epoch   uint64       `json:"epoch,omitempty"` // of a replica set
	Disk    *jsonDisk    `json:"disk,omitempty"`
	Clients []jsonClient `json:"clients,omitempty"`
}

type jsonDisk struct {
	FileSystem   string `json:"file_system"`
	Device       string `json:"device"`
	MountOptions string `json:"mount_options"`
	BlockSize    int64  `json:"block_size"` // bytes
	InodeSize    int64  `json:"inode_size"` // bytes; 0: not known
	Total        uint64 `json:"total"`      // bytes
	Free         uint64 `json:"free"`       // bytes
	Inodes       uint64 `json:"inodes"`
	InodesFree   uint64 `json:"inodes_free"`
}

type jsonClient struct {
	Address      string `json:"address"`
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
	Version      string `json:"version"`
}

// peer status, pool list, system:: uuid get
type jsonPeers struct {
	Peers []jsonPeer `json:"peers"`
}

type jsonPeer struct {
	ID        string   `json:"id"`
	Host      string   `json:"host"`
	Names     []string `json:"names"` // others of it
	Connected bool     `json:"connected"`
	State     string   `json:"state"`   // as in `peer status`
	Address   string   `json:"address"` // HOST:PORT of its daemon; "": it is alone
	Release   string   `json:"release"`
	Self      bool     `json:"self,omitempty"` // the one that answers
}

// cluster status, recover, restore
type jsonCluster struct {
	ID          string       `json:"id"`
	Incarnation uint64       `json:"incarnation"`
	Revision    int64        `json:"revision"`
	Quorum      bool         `json:"quorum"` // changes are possible
	Voters      int          `json:"voters"`
	Answering   int          `json:"answering"`
	Controller  string       `json:"controller"`           // UUID; "" none at the moment
	LastKnown   *time.Time   `json:"last_known,omitempty"` // the answer is as of then
	Trouble     string       `json:"trouble"`
	Servers     []jsonServer `json:"servers"`
}

type jsonServer struct {
	jsonPeer
	Role    string `json:"role"`   // alone, voter, learner, client
	Wanted  string `json:"wanted"` // the role that it is about to have
	Answers bool   `json:"answers"`
	Leader  bool   `json:"leader"`
	Bricks  int    `json:"bricks"`
}

// cluster backup
type jsonBackup struct {
	File  string `json:"file"`
	Bytes int    `json:"bytes"`
}

// version
type jsonVersion struct {
	Version    string `json:"version"`
	Compatible string `json:"compatible"` // the GlusterFS release whose command line is followed
}

func (c *session) writeJSON(v any) {
	e := json.NewEncoder(c.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		c.log.Error("output", "error", err)
	}
}

func toVolume(v api.Volume) jsonVolume {
	j := jsonVolume{Name: v.Name, ID: v.ID, Status: v.State.String(), Type: kindOf(v).name, Transport: "tcp",
		Stripe: v.Stripe, Replica: v.Replica, Arbiter: v.Arbiter, Disperse: v.Disperse, Redundancy: v.Redundancy,
		Bricks: []jsonBrick{}, Options: []jsonOption{}}
	for _, b := range v.Bricks {
		j.Bricks = append(j.Bricks, toBrick(b))
	}
	for _, o := range slices.Backward(v.Options) {
		j.Options = append(j.Options, jsonOption{Name: o.Name, Value: o.Value})
	}
	return j
}

func toHeal(h api.HealInfo) jsonHeal {
	j := jsonHeal{Name: h.Name, ID: h.ID, Bricks: []jsonBrickHeal{}}
	given := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	for _, b := range h.Bricks {
		j.Bricks = append(j.Bricks, jsonBrickHeal{jsonBrick: toBrick(b.Brick), Set: int(b.Set), Role: b.Role, Connected: b.Connected, Known: b.Known,
			State: b.State, Pending: b.Pending, Entries: append([]string{}, b.Entries...), HealedFiles: b.HealedFiles, HealedBytes: b.HealedBytes,
			Total: b.Total, Started: given(b.Started), Ends: given(b.Ends), LastError: b.LastError})
	}
	return j
}

func toBrick(b api.Brick) jsonBrick { return jsonBrick{b.Name, b.Host, b.Path, b.PeerID, b.Arbiter} }

func toPeer(p api.Peer) jsonPeer {
	return jsonPeer{ID: p.ID, Host: p.Host, Names: append([]string{}, p.Names...), Connected: p.Connected, State: p.State.String(),
		Address: p.Listen, Release: p.Release, Self: p.Self}
}

func toPeers(peers []api.Peer) jsonPeers {
	j := jsonPeers{Peers: []jsonPeer{}}
	for _, p := range peers {
		j.Peers = append(j.Peers, toPeer(p))
	}
	return j
}

func toCluster(cl api.Cluster) jsonCluster {
	j := jsonCluster{ID: cl.ID, Incarnation: cl.Incarnation, Revision: cl.Revision, Quorum: cl.Quorum, Voters: cl.Voters, Answering: cl.Answering,
		Controller: cl.Controller, Trouble: cl.Trouble, Servers: []jsonServer{}}
	if !cl.LastKnown.IsZero() {
		j.LastKnown = &cl.LastKnown
	}
	for _, s := range cl.Servers {
		j.Servers = append(j.Servers, jsonServer{toPeer(s.Peer), s.Role, s.Wanted, s.Answers, s.Leader, s.Bricks})
	}
	return j
}

func toStatus(s api.VolumeStatus) jsonStatus {
	j := jsonStatus{Name: s.Name, ID: s.ID, Bricks: []jsonBrickStatus{}}
	for _, b := range s.Bricks {
		jb := jsonBrickStatus{jsonBrick: toBrick(b.Brick), Online: b.Online, Port: b.Port, PID: b.PID, Set: int(b.Set), Role: b.Role, Epoch: b.Epoch}
		if d := b.Disk; d != nil {
			jb.Disk = &jsonDisk{d.FileSystem, d.Device, d.MountOptions, d.BlockSize, d.InodeSize, d.Total, d.Free, d.Inodes, d.InodesFree}
		}
		for _, cl := range b.Clients {
			jb.Clients = append(jb.Clients, jsonClient{cl.Addr, cl.BytesRead, cl.BytesWritten, cl.Version})
		}
		j.Bricks = append(j.Bricks, jb)
	}
	return j
}
