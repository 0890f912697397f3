package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mortarfs/mortar/volume/manage/api"
)

func (f *fake) healInfo(name string) (api.HealInfo, error) {
	v, err := f.find(name)
	switch {
	case err != nil:
		return api.HealInfo{}, err
	case v.Replica <= 1:
		return api.HealInfo{}, refuse("Volume %s is not of type replicate/disperse", name)
	case v.State != api.Started:
		return api.HealInfo{}, refuse("Volume %s is not started.", name)
	}
	h := api.HealInfo{Name: v.Name, ID: v.ID}
	for i, b := range v.Bricks {
		role := api.RoleInSync
		if i%v.Replica == 0 {
			role = api.RolePrimary
		}
		h.Bricks = append(h.Bricks, api.BrickHeal{Brick: b, Set: 1, Role: role, Connected: true, Known: true, State: "in sync"})
	}
	if f.pending != nil {
		f.pending(&h)
	}
	return h, nil
}

func (f *fake) VolumeHealInfo(_ context.Context, r api.VolumeRequest) (api.HealInfo, error) {
	return f.healInfo(r.Name)
}

func (f *fake) VolumeHeal(_ context.Context, r api.HealRequest) (api.HealInfo, error) {
	f.requests = append(f.requests, r)
	return f.healInfo(r.Name)
}

func (f *fake) VolumeReplaceBrick(_ context.Context, r api.BrickRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	v, err := f.find(r.Name)
	if err != nil {
		return api.Volume{}, err
	}
	if strings.HasSuffix(r.With, "/used") {
		return api.Volume{}, refuse("brick: %s does not exist in volume: %s", r.Brick, r.Name)
	}
	return *v, nil
}

func (f *fake) VolumeResetBrick(_ context.Context, r api.BrickRequest) (api.Volume, error) {
	f.requests = append(f.requests, r)
	if r.With != "" && !r.Force {
		return api.Volume{}, refuse("Source brick must be stopped. Please use gluster volume reset-brick <volname> <dst-brick> start.")
	}
	v, err := f.find(r.Name)
	if err != nil {
		return api.Volume{}, err
	}
	return *v, nil
}

// withPending has the second brick away, and three entries for it.
func withPending(f *fake) {
	f.pending = func(h *api.HealInfo) {
		b := &h.Bricks[1]
		b.Role, b.State, b.Connected, b.Pending, b.Entries = api.RoleBehind, "absent", false, 3, []string{"/", "/dir", "/dir/f"}
	}
}

// withHealing has the second brick being healed.
func withHealing(f *fake) {
	f.pending = func(h *api.HealInfo) {
		b := &h.Bricks[1]
		at := time.Date(2026, 11, 21, 0, 7, 55, 0, time.UTC)
		b.Role, b.State, b.Pending, b.Entries = api.RoleBehind, "healing", 30, []string{"/dir/f", "<gfid:0b1f>"}
		b.HealedFiles, b.HealedBytes, b.Total, b.Started, b.Ends = 70, 3<<20, 100, at, at.Add(time.Minute)
	}
}

func TestHealing(t *testing.T) {
	f := sampled()
	withHealing(f)
	r := run(f, "mortar volume heal replicate info")
	if want := "Brick gtest:/d/b1\n/dir/f \n<gfid:0b1f> \nStatus: Connected\nNumber of entries: 30\n\nBrick gtest:/d/b2\nStatus: Connected\nNumber of entries: 0\n\n"; !strings.HasPrefix(r.out, want) {
		t.Errorf("%q\nwant %q", r.out, want)
	}
	if !strings.HasPrefix(r.err, "note: gtest:/d/b2 healing, 70 files and 3.0MB healed since ") || !strings.Contains(r.err, ", 30 of 100 entries left, done by about ") {
		t.Errorf("stderr: %q", r.err)
	}
	if r := run(f, "gluster --xml volume heal replicate info"); !strings.Contains(r.out, `<file gfid="0b1f">&lt;gfid:0b1f&gt;</file>`) {
		t.Errorf("%s", r.out)
	}
	r = run(f, "gluster volume heal replicate info summary")
	if want := "Total Number of entries: 30\nNumber of entries in heal pending: 29\nNumber of entries in split-brain: 0\nNumber of entries possibly healing: 1\n"; !strings.Contains(r.out, want) {
		t.Errorf("%q\nwant %q", r.out, want)
	}
	r = run(f, "gluster volume heal replicate statistics")
	if !strings.Contains(r.out, "Crawl statistics for brick no 1\nHostname of brick gtest\n\nStarting time of crawl: ") ||
		!strings.Contains(r.out, "Crawl is in progress\nType of crawl: INDEX\nNo. of entries healed: 70\nNo. of entries in split-brain: 0\n") {
		t.Errorf("%s", r.out)
	}
	r = run(f, "mortar --json volume heal replicate info")
	var j jsonHeal
	if err := json.Unmarshal([]byte(r.out), &j); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	second, _ := json.Marshal(j.Bricks[1])
	b.Write(second)
	want := `{"name":"gtest:/d/b2","host":"gtest","path":"/d/b2","peer_id":"` + peerID + `","arbiter":false,"set":1,"role":"out of sync","connected":true,"known":true,` +
		`"state":"healing","pending":30,"entries":["/dir/f","\u003cgfid:0b1f\u003e"],"split_brain":0,"healed_files":70,"healed_bytes":3145728,"total":100,` +
		`"started":"2026-11-21T00:07:55Z","ends":"2026-11-21T00:08:55Z"}`
	if b.String() != want {
		t.Errorf("\n got %s\nwant %s", b.String(), want)
	}
	// A member that is behind, by how much nobody knows, counts; a set without a primary tells nothing.
	f.pending = func(h *api.HealInfo) { h.Bricks[2].Role = api.RoleBehind }
	if r := run(f, "gluster volume heal replicate info"); !strings.Contains(r.out, "Brick gtest:/d/b1\nStatus: Connected\nNumber of entries: 1\n") {
		t.Errorf("%s", r.out)
	}
	f.pending = func(h *api.HealInfo) {
		for i := range h.Bricks {
			h.Bricks[i].Known = false
		}
	}
	if r := run(f, "gluster volume heal replicate info"); !strings.Contains(r.out, "Brick gtest:/d/b1\nStatus: Connected\nNumber of entries: -\n") {
		t.Errorf("%s", r.out)
	}
}

func TestHealCommands(t *testing.T) {
	for _, c := range []struct {
		line, out, err string
		want           any
	}{
		{"volume heal replicate enable", "Enable heal on volume replicate has been successful \n", "", api.SetRequest{Name: "replicate", Pairs: []string{"cluster.self-heal-daemon", "on"}}},
		{"volume heal replicate disable", "Disable heal on volume replicate has been successful \n", "", api.SetRequest{Name: "replicate", Pairs: []string{"cluster.self-heal-daemon", "off"}}},
		{"volume heal replicate granular-entry-heal enable", "Enable granular entry heal on volume replicate has been successful \n", "", api.SetRequest{Name: "replicate", Pairs: []string{"cluster.granular-entry-heal", "on"}}},
		{"volume heal replicate full", "Launching", "", api.HealRequest{Name: "replicate", Full: true}},
		{"volume heal distribute", "", "Launching heal operation to perform index self heal on volume distribute has been unsuccessful:\nVolume distribute is not of type replicate/disperse\n", api.HealRequest{Name: "distribute"}},
		{"volume heal distribute enable", "", "Enable heal on volume distribute has been unsuccessful:\nVolume distribute is not of type replicate/disperse\n", nil},
		{"volume heal distribute info", "", "Volume distribute is not of type replicate/disperse\n", nil},
		{"volume heal nosuch info", "", "Volume nosuch does not exist\n", nil},
		{"volume heal replicate split-brain latest-mtime /f", "", "There is no split-brain in replicate to be resolved", nil},
		{"volume heal replicate statistics heal-count replica gtest:/d/b2", "Gathering count of entries to be healed on volume replicate has been successful \n\nBrick gtest:/d/b2\nNumber of entries: 0\n", "", nil},
		{"volume heal", "", "\nUsage:\nvolume heal <VOLNAME> ", nil},
		{"volume heal replicate frob", "", "\nUsage:\n", nil},
		{"volume heal replicate full now", "", "\nUsage:\n", nil},
		{"volume heal replicate info frob", "", "\nUsage:\n", nil},
		{"volume heal replicate granular-entry-heal maybe", "", "\nUsage:\n", nil},
		{"volume replace-brick replicate gtest:/d/b1 h:/n commit force", "volume replace-brick: success: ", "", api.BrickRequest{Name: "replicate", Brick: "gtest:/d/b1", With: "h:/n", Force: true}},
		{"volume replace-brick replicate gtest:/d/b1 h:/n commit", "", "\nUsage:\nvolume replace-brick ", nil},
		{"volume reset-brick replicate gtest:/d/b1 start", "volume reset-brick: success: ", "", api.BrickRequest{Name: "replicate", Brick: "gtest:/d/b1"}},
		{"volume reset-brick replicate gtest:/d/b1 gtest:/d/b1 commit", "", "volume reset-brick: failed: Source brick must be stopped.", api.BrickRequest{Name: "replicate", Brick: "gtest:/d/b1", With: "gtest:/d/b1"}},
		{"volume reset-brick replicate gtest:/d/b1 stop", "", "\nUsage:\nvolume reset-brick ", nil},
		{"volume reset-brick replicate gtest:/d/b1", "", "\nUsage:\nvolume reset-brick ", nil},
	} {
		f := sampled()
		r := run(f, "gluster --mode=script "+c.line)
		if !strings.HasPrefix(r.out, c.out) || c.out == "" && r.out != "" || !strings.HasPrefix(r.err, c.err) || c.err == "" && r.err != "" || (r.code == 0) != (c.err == "") {
			t.Errorf("%s: %+v", c.line, r)
		}
		if c.want == nil && len(f.requests) != 0 || c.want != nil && (len(f.requests) != 1 || !reflect.DeepEqual(f.requests[0], c.want)) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.line, f.requests, c.want)
		}
	}
}
