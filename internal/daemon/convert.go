package daemon

import (
	"fmt"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/router"
)

// verdict is a verdict in the form of the API.
func verdict(v *fettle.Verdict, text string, evidence []fettle.Evidence) api.Verdict {
	out := api.Verdict{
		Level: v.Level, Score: float64(v.Score), Cause: v.Cause, Extent: v.Extent, Channel: v.Channel, Text: text,
		Evidence: evidence, Progress: float64(v.Progress),
		Parts: api.Parts{
			SelfLoad: float64(v.SelfLoad), SelfResponse: float64(v.SelfResp), PeersLoad: float64(v.PeersLoad),
			PeersResponse: float64(v.PeersResp), Categories: float64(v.Categories), Shared: float64(v.Shared),
		},
	}
	if evidence == nil {
		out.Evidence = []fettle.Evidence{}
	}
	if v.Since != 0 {
		t := v.Since.Time()
		out.Since = &t
	}
	return out
}

func (p *pool) instance(m *plan.Member, first time.Duration) api.InstanceStatus {
	in := api.InstanceStatus{
		ID: m.ID, Generation: m.Generation, Phase: m.Phase, Label: m.Label, Work: m.Work.String(), PID: m.Scope.PID, Born: m.Born,
		Verdict: verdict(&m.Verdict, m.Text, m.Evidence), Weight: m.Weight, Settings: m.Settings, Knobs: m.Knobs,
		Unavailable: p.sampler.Unavailable(m.Ref), Quiet: m.Quiet, Unresponsive: m.Unresponsive, Restarts: m.Restarts,
		LastError: m.LastError,
	}
	if m.Endpoint.Network != "" {
		in.Endpoint = m.Endpoint.String()
	}
	if !m.Born.IsZero() {
		in.Age = fettle.Duration(time.Since(m.Born))
	}
	in.Forecast = m.Forecast
	if m.Verdict.Level == fettle.Learning && m.Phase == fettle.Ready {
		in.FirstVerdictIn = fettle.Duration(first)
	}
	if in.Settings == nil {
		in.Settings = []fettle.Setting{}
	}
	if in.Knobs == nil {
		in.Knobs = []fettle.Knob{}
	}
	if m.Trial != nil {
		in.Trial = trial(m)
	}
	return in
}

// doing says in a few words what is done to an instance.
func doing(ops []plan.OperationView, m *plan.Member) string {
	for _, o := range ops {
		if o.Ref.ID != m.ID {
			continue
		}
		s := fmt.Sprintf("%s: %s", o.Kind, o.Step)
		if o.Reason.Text != "" {
			s += " (" + o.Reason.Text + ")"
		}
		return s
	}
	if m.Operation != fettle.NoOperation {
		return m.Operation.String()
	}
	return ""
}

// routed adds what the router knows of an instance.
func routed(in *api.InstanceStatus, stats *router.Stats) {
	for i := range stats.Members {
		if m := &stats.Members[i]; m.Ref.ID == in.ID && m.Ref.Generation == in.Generation {
			in.Requests, in.Errors, in.InFlight = m.Requests, m.Errors+m.Lost, m.InFlight
			in.ByStatus, in.Ejected = m.Status, m.State == "ejected"
		}
	}
}

func trafficOf(s *router.Stats) api.Traffic {
	t := api.Traffic{
		Requests: s.Requests, ByStatus: s.Status, Lost: s.Lost, Retries: s.Retries, Queued: s.Queued, InFlight: s.InFlight,
	}
	for _, r := range s.Ejected {
		t.Ejected = append(t.Ejected, r.String())
	}
	return t
}

func trial(m *plan.Member) string {
	t := m.Trial
	return fmt.Sprintf("%s %g instead of %g, since %s", t.Setting.Knob, t.Setting.Value, t.Was.Value,
		fettle.Duration(time.Since(t.Since).Round(time.Second)))
}
