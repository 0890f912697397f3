package fstest_test

import (
	"testing"

	"github.com/mortarfs/mortar/test/fstest"
	"github.com/mortarfs/mortar/test/model"
	"github.com/mortarfs/mortar/volume"
)

func onModel(*testing.T) volume.FS { return model.New() }

func onStore(*testing.T) volume.FS { return model.NewStore(1) }

func TestModel(t *testing.T) { fstest.Run(t, fstest.Config{New: onModel}) }

func TestStore(t *testing.T) { fstest.Run(t, fstest.Config{New: onStore}) }

func TestRandom(t *testing.T) { fstest.Random(t, fstest.Config{New: onModel}, 5000) }

func TestRandomConcurrent(t *testing.T) {
	fstest.RandomConcurrent(t, fstest.Config{New: onStore}, 3000)
}

func TestRandomStore(t *testing.T) {
	fstest.RandomStore(t, fstest.StoreConfig{
		New: func(*testing.T) volume.Store { return model.NewStore(1) },
		Restart: func(_ *testing.T, s volume.Store) volume.Store {
			s.(*model.Store).Crash()
			return s
		},
	}, 3000)
}

var memberOnModel = fstest.MemberConfig{
	New: func(*testing.T) volume.Member { return model.NewStore(1) },
	Restart: func(_ *testing.T, m volume.Member) volume.Member {
		m.(*model.Store).Crash()
		return m
	},
}

func TestMember(t *testing.T) { fstest.Member(t, memberOnModel) }

func TestRandomMember(t *testing.T) { fstest.RandomMember(t, memberOnModel, 2000) }
