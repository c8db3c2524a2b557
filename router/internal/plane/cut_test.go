package plane

import (
	"io"
	"net/http"
	"testing"
)

// TestARequestCutByARemovalGoesElsewhere: an instance that hangs is removed with a GET in it; another one answers.
func TestARequestCutByARemovalGoesElsewhere(t *testing.T) {
	r := newRig(t, nil)
	arrived, gate := make(chan struct{}), make(chan struct{})
	ep, _ := instance(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-gate
	})
	t.Cleanup(func() { close(gate) })
	stuck := r.admit(ep)
	got := make(chan string, 1)
	go func() {
		resp, err := r.client.Get(r.url + "/x")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- resp.Status + " " + resp.Header.Get("X-Fettle-Error") + string(b)
	}()
	<-arrived
	other, _ := instance(t, ok)
	r.admit(other)
	r.remove(stuck)
	if a := <-got; a != "200 OK ok" {
		t.Errorf("the request in the removed instance: %s", a)
	}
}
