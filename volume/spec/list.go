package spec

// Shown is a line of `volume get`.
type Shown struct {
	Name    string
	Value   string
	Default bool // not set: gluster prints "(DEFAULT)" after Value
}

// List is what `volume get VOL all` shows of a volume's options: the whole
// table in GlusterFS's order. set holds the options that were set.
func List(set map[string]string) []Shown {
	var list []Shown
	for i := range table().all {
		o := &table().all[i]
		if o.listed {
			list = append(list, o.show(set))
		}
	}
	return list
}

// clusterOptions are what `volume get all all` shows, in GlusterFS's order, and
// at the end what is Mortar's own.
var clusterOptions = [...]string{
	"cluster.server-quorum-ratio", "cluster.enable-shared-storage", "cluster.op-version", "cluster.max-op-version",
	"cluster.brick-multiplex", "cluster.max-bricks-per-process", "glusterd.vol_count_per_thread",
	"cluster.localtime-logging", "cluster.daemon-log-level", "cluster.brick-graceful-cleanup",
	"cluster.max-voters",
}

// ListCluster is what `volume get all all` shows. set holds the cluster-wide
// options that were set.
func ListCluster(set map[string]string) []Shown {
	var list []Shown
	for _, name := range clusterOptions {
		s, err := Get(name, set)
		if err == nil {
			s.Default = set[name] == "" && name != "cluster.op-version" && name != "cluster.max-op-version"
			list = append(list, s)
		}
	}
	return list
}

// Get is what `volume get VOL KEY` shows: the option's full name and value. The
// error is that of Lookup.
func Get(name string, set map[string]string) (Shown, error) {
	o, err := Lookup(name)
	if err != nil {
		return Shown{}, err
	}
	return o.show(set), nil
}

func (o *Option) show(set map[string]string) Shown {
	if v, ok := set[o.Name]; ok {
		return Shown{o.Name, v, false}
	}
	return Shown{o.Name, o.Default, o.marked}
}

// Helped returns the options that `volume set help` explains: Mortar's own
// first, then those that are accepted without effect, each once.
func Helped() []Option {
	var list []Option
	for _, effect := range []bool{true, false} {
		seen := make(map[string]bool)
		for _, o := range table().all {
			if o.helped && o.Effect == effect && !seen[o.Name] {
				seen[o.Name] = true
				list = append(list, o)
			}
		}
	}
	return list
}
