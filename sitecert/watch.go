package sitecert

import (
	"context"
	"time"
)

// storageTimeout bounds one look at the storage in the background.
const storageTimeout = 30 * time.Second

// warnEvery is how often a certificate near its end is pointed out.
const warnEvery = 24 * time.Hour

// Watch looks after the site until ctx ends: it takes over what other instances
// change, at the given interval, and from Config.RenewBefore before the
// certificate's end prepares a renewal, and warns once a day, calling expiring.
func (s *Site) Watch(ctx context.Context, every time.Duration, expiring func(Status)) {
	w := watch{site: s, expiring: expiring}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// watch remembers what was said already.
type watch struct {
	site     *Site
	expiring func(Status)
	failing  bool
	warned   time.Time
}

func (w *watch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	changed, err := w.site.Refresh(ctx)
	if err == nil {
		err = w.prepareRenewal(ctx)
	}
	switch {
	case ctx.Err() == context.Canceled:
		return
	case err != nil && !w.failing:
		w.site.log.Error("storage failed; the certificate in memory stays in use", "error", err)
	case err == nil && w.failing:
		w.site.log.Info("storage works again")
	}
	w.failing = err != nil
	status := w.site.Status()
	if changed {
		w.site.log.Info("taken over from another instance", "state", status.State, "not_after", status.NotAfter)
	}
	w.warn(status)
}

func (w *watch) prepareRenewal(ctx context.Context) error {
	status := w.site.Status()
	if status.Renewal != nil || status.State != StateExpiring && status.State != StateExpired {
		return nil
	}
	_, err := w.site.Renew(ctx)
	return err
}

func (w *watch) warn(status Status) {
	if status.State != StateExpiring && status.State != StateExpired {
		w.warned = time.Time{}
		return
	}
	now := w.site.config.Now()
	if now.Sub(w.warned) < warnEvery {
		return
	}
	w.warned = now
	w.site.log.Warn("the site's certificate is near its end or past it: have the CSR of the renewal signed and install the certificate",
		"state", status.State, "not_after", status.NotAfter)
	w.expiring(status)
}
