package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// measureInventories measures our servers with inventories. Each is a process of
// its own that runs alone with the others: the garbage that a million rows leave
// would be collected during the others' visits.
func (o *options) measureInventories(ctx context.Context, f *fleet, back *backEnds, peers []*peer, phones []*phone, r *results) error {
	for i := range kinds {
		k := &kinds[i]
		if k.rows == 0 || !wanted(o.kinds, k.name) {
			continue
		}
		if err := f.inventory(k.rows); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, k.title)
		for _, p := range peers {
			if !p.ours {
				continue
			}
			if err := o.measureInventory(ctx, f, back, p, phones, k, r); err != nil {
				return fmt.Errorf("%s: %s: %w", p.title, k.title, err)
			}
		}
	}
	return nil
}

func (o *options) measureInventory(ctx context.Context, f *fleet, back *backEnds, p *peer, phones []*phone, k *kind, r *results) (err error) {
	twin := &peer{name: fmt.Sprintf("%s-%d", p.name, k.rows), title: p.title + strings.TrimPrefix(k.title, "keep-alive"), rows: k.rows, command: p.command}
	err = o.start(f, back, twin, phones)
	if twin.process != nil {
		defer func() { err = errors.Join(err, twin.stop()) }()
	}
	if err != nil {
		return err
	}
	for range o.rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := playRound(twin, k, phones, k.count(o.visits))
		if err != nil {
			return err
		}
		r.add(k, p, s)
	}
	if err := r.addMemory(twin); err != nil || o.profiles == "" {
		return err
	}
	return o.takeProfile(twin, k, phones, k.count(o.visits))
}
