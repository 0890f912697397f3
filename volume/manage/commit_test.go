package manage

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Whether a transaction without an answer was carried out is seen in the records,
// though what it began has gone on meanwhile.
func TestShows(t *testing.T) {
	v := &volumeRecord{V: recordVersion, Name: "v", ID: newUUID(), Phase: checking}
	task := &taskRecord{V: recordVersion, ID: newUUID(), Kind: kindCreate, Volume: "v", VolumeID: v.ID}
	others, taken, checked := *task, *task, v.clone()
	others.ID, taken.Server, checked.Phase = newUUID(), newUUID(), creating
	have := haveKey(v.ID, newUUID())
	put := func(key string, r any) clientv3.Op { return clientv3.OpPut(key, encode(r)) }
	begin := []clientv3.Op{putVolume(v), putTask(task), put(have, haveRecord{V: recordVersion})}
	for name, test := range map[string]struct {
		there []clientv3.Op // the records
		ops   []clientv3.Op
		want  bool
	}{
		"nothing is there":           {nil, begin, false},
		"as it was written":          {begin, begin, true},
		"a keeper has gone on":       {[]clientv3.Op{putVolume(v), putTask(task), put(have, haveRecord{V: recordVersion, Is: ready})}, begin, true},
		"another's task":             {[]clientv3.Op{putVolume(v), putTask(&others)}, begin, false},
		"taken over":                 {[]clientv3.Op{putVolume(v), putTask(&taken)}, begin, false},
		"a volume, changed":          {[]clientv3.Op{putVolume(checked), putTask(task)}, []clientv3.Op{putVolume(checked)}, true},
		"a volume, not changed":      {begin, []clientv3.Op{putVolume(checked)}, false},
		"the task's end":             {[]clientv3.Op{putVolume(checked)}, []clientv3.Op{putVolume(checked), endTask(task)}, true},
		"the task's end is to come":  {begin, []clientv3.Op{putVolume(v), endTask(task)}, false},
		"all goes, and nothing is":   {nil, append(dropVolume(v), endTask(task)), true},
		"all goes, and it is there":  {begin, append(dropVolume(v), endTask(task)), false},
		"all goes, but for the task": {[]clientv3.Op{putTask(task)}, append(dropVolume(v), endTask(task)), false},
	} {
		s := newSnapshot(1)
		for _, op := range test.there {
			if err := s.put(string(op.KeyBytes()), rawRecord{op.ValueBytes(), 1}); err != nil {
				t.Fatal(err)
			}
		}
		if got := shows(s, test.ops); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
