package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// stormAtOnce is how many phones of a storm are on their way at a time.
const stormAtOnce = 500

// runStorm lets n phones come for the first time, as after a power cut, and
// prints how each server got through it.
func runStorm(ctx context.Context, f *fleet, peers []*peer, n int) error {
	fmt.Fprintf(os.Stderr, "making %d phones\n", n)
	phones, err := f.phones(n)
	if err != nil {
		return err
	}
	fmt.Printf("| %d phones, %d at once | all served after | visits/s | errors | CPU s | peak memory |\n| --- | --- | --- | --- | --- | --- |\n", n, min(n, stormAtOnce))
	for _, p := range peers {
		before, err := p.cpu()
		if err != nil {
			return err
		}
		var failed atomic.Int64
		var first atomic.Pointer[error]
		start := time.Now()
		_ = inParallel(n, stormAtOnce, func(i int) error { // counted
			err := ctx.Err()
			if err == nil {
				_, err = visitOnce(p.address, &kinds[0], phones[i], nil)
			}
			if err != nil {
				failed.Add(1)
				first.CompareAndSwap(nil, &err)
			}
			return nil
		})
		took := time.Since(start)
		if err := ctx.Err(); err != nil {
			return err
		}
		after, err := p.cpu()
		if err != nil {
			return err
		}
		peak, err := p.peakMemory()
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f s | %.0f | %d | %.1f | %d MB |\n", p.title, took.Seconds(), float64(n)/took.Seconds(), failed.Load(), (after - before).Seconds(), peak>>20)
		if e := first.Load(); e != nil {
			fmt.Fprintf(os.Stderr, "%s, the first error: %v\n", p.title, *e)
		}
	}
	return nil
}
