package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/etcdapi"
	"github.com/quorate/quorate/host"
)

// watchInterval is how often a member asks whether one of its groups has failed.
const watchInterval = time.Second

// fail notes why the member cannot go on; the first reason counts.
func (r *replica) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// wait returns nil once ctx ends, or why the member cannot go on. A member whose
// log or state machine failed says nothing more to anyone; the process ends, so
// that its supervisor starts it again from what is on disk.
func (r *replica) wait(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.failed:
			return err
		case <-ticker.C:
			for _, g := range []*host.Group{r.group, r.rosterGroup} {
				if err := failure(ctx, g); err != nil {
					return fmt.Errorf("this member cannot go on: %w", err)
				}
			}
		}
	}
}

// failure is why this member's replica of g has stopped, nil if it goes on.
func failure(ctx context.Context, g *host.Group) error {
	ask, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	_, err := g.Inspect(ask)
	if errors.Is(err, host.ErrGroupFailed) || errors.Is(err, host.ErrLogFailed) {
		return err
	}
	return nil
}

// close stops the member. With handOver it first gives its leadership away, so
// that clients of the others notice nothing. ctx bounds the polite part.
func (r *replica) close(ctx context.Context, handOver bool) error {
	if handOver {
		part, cancel := context.WithTimeout(ctx, 2*r.settings.Election)
		if err := r.host.HandOver(part); err != nil {
			r.log.Warn("leadership was not handed over; the others will elect", "err", err)
		}
		cancel()
	}
	r.api.Shutdown()
	r.doors.closeClients()
	part, cancel := context.WithTimeout(ctx, closeTimeout/3)
	defer cancel()
	etcdapi.StopGRPC(part, r.grpc)
	r.doors.served.Wait()
	return r.release()
}

// release gives back what startReplica took, as far as it had come.
func (r *replica) release() error {
	var errs []error
	r.doors.closeClients()
	if r.stopped != nil {
		r.stopped()
		r.announcing.Wait()
	}
	if r.host != nil {
		errs = append(errs, r.host.Close()) // which closes the peers' listener
	}
	r.doors.close()
	if r.dir != nil {
		errs = append(errs, r.dir.Close())
	}
	return errors.Join(errs...)
}
