package dht

import (
	"context"

	"github.com/mortarfs/mortar/volume"
)

// spread makes a directory that was just made here known to the other sets.
// Those that are away get their copy when it is needed. The caller has the
// name's lock, so no rmdir comes between.
func (o *Owner) spread(ctx context.Context, v *view, k nameKey, id volume.ID) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	c, err := o.store.Copy(ctx, id)
	if err != nil {
		return err
	}
	c.Home = v.home(id)
	errs := each(o.others(v), func(set volume.SetID) error {
		if !v.up(set) || set == c.Home {
			return nil
		}
		_, err := o.tell(ctx, v, set, &step{op: opCopy, dir: k.dir, name: k.name, copy: &c})
		return err
	})
	for i, err := range errs {
		if err != nil {
			o.log.Debug("copy of a directory not made now", "dir", id, "set", o.others(v)[i], "err", err)
		}
	}
	return nil
}

// makeFar makes a directory whose ID the caller chose such that its home is
// another set: that decides whether it exists. The intent says what to do if the home's
// answer does not come, or this process ends before: Run asks the home, and what is
// here goes if the home has none. So, other than elsewhere, the directory is made if
// the intent is given up.
func (o *Owner) makeFar(ctx context.Context, v *view, k nameKey, n volume.Node, request volume.Request) (volume.Attr, error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	it := &intent{
		request: request, made: true, victim: n.ID, own: []nameKey{k},
		commit:  action{kind: actGone, set: o.self, dir: k.dir, name: k.name, id: n.ID},
		actions: []action{{kind: actGone, id: n.ID}},
	}
	if err := o.begin(ctx, it); err != nil {
		return volume.Attr{}, err
	}
	a, err := o.makeHere(ctx, ctx, v, k, n)
	if err != nil {
		o.notMade(ctx, v, it, err)
		return a, err
	}
	home := v.home(n.ID)
	c, err := o.store.Copy(ctx, n.ID)
	if err == nil {
		c.Home = home
		_, err = o.tell(ctx, v, home, &step{op: opCopy, dir: k.dir, name: k.name, copy: &c})
	}
	if err != nil {
		o.rest(it)
		return a, err
	}
	o.marks.add(n.ID, home, n.ID)
	o.giveUp(ctx, v, it, &held{o: o}) // there is nothing to remove
	return a, o.spread(ctx, v, k, n.ID)
}

// notMade ends the intent of a directory that could not even be made here.
func (o *Owner) notMade(ctx context.Context, v *view, it *intent, err error) {
	if !isUnsure(err) {
		it.made = false
		if o.replan(ctx, it) == nil {
			o.giveUp(ctx, v, it, &held{o: o})
			return
		}
		it.made = true
	}
	o.rest(it)
}
