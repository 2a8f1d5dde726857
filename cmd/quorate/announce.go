package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/internal/roster"
	"github.com/quorate/quorate/internal/settings"
)

// announcePause is between two tries to announce this member.
const announcePause = 500 * time.Millisecond

// announce tells the other members where this one serves clients, unless they
// know, and tries until ctx ends. The member list then shows it everywhere.
func (r *replica) announce(ctx context.Context) {
	for {
		err := r.tryAnnounce(ctx)
		if err == nil || errors.Is(err, host.ErrStopped) || errors.Is(err, host.ErrGroupFailed) {
			return
		}
		r.log.Debug("the client URLs are not announced yet", "err", err)
		select {
		case <-time.After(announcePause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *replica) tryAnnounce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout(r.settings))
	defer cancel()
	if err := r.rosterGroup.Barrier(ctx); err != nil {
		return err
	}
	self, urls := r.dir.Identity.Member, settings.Strings(r.settings.AdvertiseClient)
	if slices.Equal(r.roster.ClientURLs(self), urls) {
		return nil
	}
	_, err := r.rosterGroup.Propose(ctx, roster.Announce(self, urls))
	return err
}
