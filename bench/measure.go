package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// settle is how long a server gets to finish what a visit left to do.
const settle = 100 * time.Millisecond

// sample is what a round of visits of one kind cost one server.
type sample struct {
	cpu     time.Duration // for each visit
	elapsed time.Duration
	resumed bool
}

// players are phones that are ready for their visits of a kind to a server.
type players struct {
	kind     *kind
	address  string
	phones   []*phone
	visits   int
	sessions []tls.ClientSessionCache // of returning phones
	conns    []*connection            // of phones that keep theirs
	resumed  atomic.Int64             // visits with an earlier session
}

// measure lets all kinds of visits happen to all servers, in turn, and then those
// to inventories.
func (o *options) measure(ctx context.Context, f *fleet, back *backEnds, peers []*peer) (*results, error) {
	r := newResults(o, peers)
	regulars, err := f.phones(max(o.visits, atOnce))
	if err != nil {
		return nil, err
	}
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
		for i := range kinds {
			k := &kinds[i]
			if k.rows > 0 || !wanted(o.kinds, k.name) {
				continue
			}
			phones := regulars
			if k.fresh {
				if phones, err = f.phones(k.count(o.visits)); err != nil {
					return nil, err
				}
			}
			// No server is always the first.
			for n := range peers {
				p := peers[(round+n)%len(peers)]
				if !p.can(k) {
					continue
				}
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				s, err := playRound(p, k, phones, k.count(o.visits))
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", p.title, k.title, err)
				}
				r.add(k, p, s)
			}
		}
	}
	for _, p := range peers {
		if err := r.addMemory(p); err != nil {
			return nil, err
		}
	}
	return r, o.measureInventories(ctx, f, back, peers, regulars, r)
}

// playRound measures a round of visits.
func playRound(p *peer, k *kind, phones []*phone, visits int) (s sample, err error) {
	players, err := newPlayers(p.address, k, phones, visits)
	defer func() { err = errors.Join(err, players.leave()) }()
	if err != nil {
		return s, err
	}
	time.Sleep(settle)
	before, err := p.cpu()
	if err != nil {
		return s, err
	}
	start := time.Now()
	if err := players.play(); err != nil {
		return s, err
	}
	s.elapsed = time.Since(start)
	time.Sleep(settle)
	after, err := p.cpu()
	s.cpu = (after - before) / time.Duration(visits)
	s.resumed = players.resumed.Load() == int64(visits)
	return s, err
}

// newPlayers does what comes before the visits, and isn't measured.
func newPlayers(address string, k *kind, phones []*phone, visits int) (*players, error) {
	p := &players{kind: k, address: address, phones: phones, visits: visits}
	switch {
	case k.fresh:
		return p, nil
	case k.resumed:
		p.sessions = make([]tls.ClientSessionCache, visits)
		return p, inParallel(visits, atOnce, func(i int) error {
			p.sessions[i] = tls.NewLRUClientSessionCache(1)
			_, err := visitOnce(address, k, phones[i], p.sessions[i])
			return err
		})
	}
	for _, phone := range phones[:atOnce] {
		c, err := connect(address, k, phone, nil)
		if err != nil {
			return p, err
		}
		p.conns = append(p.conns, c)
		if err := c.visit(k, false); err != nil {
			return p, err
		}
	}
	return p, nil
}

// play makes the visits.
func (p *players) play() error {
	if p.conns == nil {
		return inParallel(p.visits, atOnce, func(i int) error {
			var sessions tls.ClientSessionCache
			if p.sessions != nil {
				sessions = p.sessions[i]
			}
			resumed, err := visitOnce(p.address, p.kind, p.phones[i], sessions)
			if resumed {
				p.resumed.Add(1)
			}
			return err
		})
	}
	return inParallel(len(p.conns), len(p.conns), func(i int) error {
		for n := i; n < p.visits; n += len(p.conns) {
			if err := p.conns[i].visit(p.kind, false); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *players) leave() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
