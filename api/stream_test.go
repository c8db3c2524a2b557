package api_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fettle-dev/fettle/api"
)

// While nothing happens a followed log sends a blank line every ten seconds, and nothing after it has ended.
func TestFollowedLogHasAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{log: func(ctx context.Context, _ api.LogFilter, _ func(api.LogEntry) error) error {
			<-ctx.Done()
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			api.Handler(b, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/log?follow=1", nil))
		}()
		time.Sleep(35 * time.Second)
		cancel()
		<-done
		if got := w.Body.String(); got != "\n\n\n" {
			t.Errorf("in 35 s of silence came %q", got)
		}
	})
}
