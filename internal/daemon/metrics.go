package daemon

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// metrics are what Prometheus reads. Counters follow the events; all else is asked of the pools at each scrape.
type metrics struct {
	d        *daemon
	reg      *prometheus.Registry
	actions  *prometheus.CounterVec
	exits    *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	trials   *prometheus.CounterVec
}

func newMetrics(d *daemon) *metrics {
	m := &metrics{
		d: d, reg: prometheus.NewRegistry(),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fettle_actions_total", Help: "Actions that ended, by verb and outcome (done, failed, skipped).",
		}, []string{"pool", "verb", "outcome"}),
		exits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fettle_instance_exits_total", Help: "Instances that ended by themselves.",
		}, []string{"pool"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fettle_verdicts_total", Help: "Changes of instances' verdicts, by the level and cause that they changed to.",
		}, []string{"pool", "level", "cause"}),
		trials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fettle_trials_total", Help: "Settings under observation that were kept or reverted.",
		}, []string{"pool", "knob", "outcome"}),
	}
	m.reg.MustRegister(m.actions, m.exits, m.verdicts, m.trials, &collector{d})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// count is called in the pools' loops with every event.
func (m *metrics) count(name fettle.PoolName, e fettle.Event) {
	pool := string(name)
	switch e := e.(type) {
	case *fettle.Finished:
		outcome := "done"
		if e.Skipped {
			outcome = "skipped"
		} else if e.Err != "" {
			outcome = "failed"
		}
		m.actions.WithLabelValues(pool, e.Action.Verb.String(), outcome).Inc()
	case *fettle.Exited:
		m.exits.WithLabelValues(pool).Inc()
	case *fettle.Judged:
		m.verdicts.WithLabelValues(pool, e.Verdict.Level.String(), e.Verdict.Cause.String()).Inc()
	case *fettle.TrialEnded:
		outcome := "reverted"
		if e.Kept {
			outcome = "kept"
		}
		m.trials.WithLabelValues(pool, e.Setting.Knob, outcome).Inc()
	default:
	}
}

// forget drops the counters of a pool that is gone.
func (m *metrics) forget(name fettle.PoolName) {
	of := prometheus.Labels{"pool": string(name)}
	for _, v := range []*prometheus.CounterVec{m.actions, m.exits, m.verdicts, m.trials} {
		v.DeletePartialMatch(of)
	}
}

var (
	poolLabels     = []string{"pool"}
	instanceLabels = []string{"pool", "instance"}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fettle_"+name, help, labels, nil)
}

// The gauges and totals that are asked of the pools. Names follow Prometheus' conventions: base units, _total.
var (
	descUp        = desc("up", "1 where the pool's engine answers.", poolLabels...)
	descInstances = desc("instances", "Instances by phase.", "pool", "phase")
	descDesired   = desc("instances_desired", "Instances that should run.", poolLabels...)
	descDrifting  = desc("instances_drifting", "Instances whose drift score is above their threshold.", poolLabels...)
	descDegraded  = desc("pool_degraded", "1 while instances do not come up.", poolLabels...)
	descPaused    = desc("pool_paused", "1 while nothing planned is done.", poolLabels...)
	descBreaker   = desc("pool_breaker", "1 while the breaker holds planned actions back.", poolLabels...)
	descJournal   = desc("journal_failing", "1 while the journal fails and nothing disruptive is done.", poolLabels...)
	descStalled   = desc("engine_stalled", "1 while a part of the engine hangs.", poolLabels...)
	descSteps     = desc("engine_step_seconds", "How long the steps of the engine took.", poolLabels...)
	descDisrupted = desc("disruptions_last_hour", "Planned disruptive operations that began in the last hour.", poolLabels...)
	descPoolScore = desc("pool_drift_score", "Drift score of the pool as a whole; 1 is the threshold.", poolLabels...)
	descScore     = desc("drift_score", "Drift score of an instance; 1 is its threshold.", instanceLabels...)
	descLevel     = desc("drift_level", "Level of an instance: 0 learning, 1 steady, 2 low, 3 medium, 4 high, 5 critical.", instanceLabels...)
	descProgress  = desc("learning_progress", "How much of an instance's baseline is learnt, 0 to 1.", instanceLabels...)
	descCPU       = desc("instance_cpu_cores", "CPU that an instance uses.", instanceLabels...)
	descMemory    = desc("instance_memory_bytes", "Memory that an instance has resident.", instanceLabels...)
	descRestarts  = desc("instance_restarts", "Restarts of an instance by faults in the last hour.", instanceLabels...)
	descIRequests = desc("instance_requests_total", "Requests given to an instance.", instanceLabels...)
	descIErrors   = desc("instance_errors_total", "Requests that an instance answered with 5xx or not at all.", instanceLabels...)
	descIAnswers  = desc("instance_answers_total", "Answers of an instance by class of status; none is no answer, or half of one.", "pool", "instance", "status")
	descLatency   = desc("instance_latency_seconds", "Latency of an instance: of the last few seconds.", "pool", "instance", "quantile")
	descRequests  = desc("requests_total", "Requests answered, by class of status.", "pool", "status")
	descLost      = desc("requests_lost_total", "Requests that the router had to answer itself, by kind.", "pool", "kind")
	descRetries   = desc("retries_total", "Requests that were sent again elsewhere.", poolLabels...)
	descQueued    = desc("requests_queued", "Requests that wait for an instance.", poolLabels...)
	descInFlight  = desc("requests_in_flight", "Requests that are being answered.", poolLabels...)
)

// collector asks all pools at each scrape. A pool whose engine does not answer is told by fettle_up 0.
type collector struct{ d *daemon }

// Describe sends nothing: which series there are depends on the pools.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks all pools.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), viewTime)
	defer cancel()
	for _, p := range c.d.all() {
		g := gatherer{out: out, pool: string(p.name)}
		_, stalled := p.loop.Stalled(time.Now())
		g.gauge(descStalled, flag(stalled))
		n, sum, quantiles := p.loop.StepTimes()
		g.out <- prometheus.MustNewConstSummary(descSteps, n, sum.Seconds(), quantiles, g.pool)
		s, err := p.status(ctx)
		g.gauge(descUp, flag(err == nil))
		if err != nil {
			continue
		}
		g.pools(&s)
		for i := range s.Instances {
			g.instance(&s.Instances[i])
		}
	}
}

// gatherer sends the metrics of one pool.
type gatherer struct {
	out  chan<- prometheus.Metric
	pool string
}

func (g gatherer) gauge(d *prometheus.Desc, v float64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{g.pool}, labels...)...)
}

func (g gatherer) total(d *prometheus.Desc, v uint64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{g.pool}, labels...)...)
}

func (g gatherer) pools(s *api.PoolStatus) {
	phases := map[fettle.Phase]int{}
	for p := range fettle.Gone {
		phases[p] = 0
	}
	for i := range s.Instances {
		phases[s.Instances[i].Phase]++
	}
	for p, n := range phases {
		g.gauge(descInstances, float64(n), p.String())
	}
	g.gauge(descDesired, float64(s.Desired))
	g.gauge(descDrifting, float64(s.Drifting))
	g.gauge(descDegraded, flag(s.Degraded))
	g.gauge(descPaused, flag(s.Paused))
	g.gauge(descBreaker, flag(s.Breaker != ""))
	g.gauge(descJournal, flag(s.Journal != ""))
	g.gauge(descDisrupted, float64(s.DisruptionsLastHour))
	g.gauge(descPoolScore, s.Verdict.Score)
	if s.Config.Serve != fettle.HTTP {
		return
	}
	for class, n := range s.Traffic.ByStatus {
		g.total(descRequests, n, class)
	}
	for kind, n := range s.Traffic.Lost {
		g.total(descLost, n, kind)
	}
	g.total(descRetries, s.Traffic.Retries)
	g.gauge(descQueued, float64(s.Traffic.Queued))
	g.gauge(descInFlight, float64(s.Traffic.InFlight))
}

func (g gatherer) instance(in *api.InstanceStatus) {
	id := string(in.ID)
	g.gauge(descScore, in.Score, id)
	g.gauge(descLevel, float64(in.Level), id)
	g.gauge(descProgress, in.Progress, id)
	g.gauge(descCPU, in.Figures.CPU, id)
	g.gauge(descMemory, in.Figures.Memory, id)
	g.gauge(descRestarts, float64(in.Restarts), id)
	g.total(descIRequests, in.Requests, id)
	g.total(descIErrors, in.Errors, id)
	for class, n := range in.ByStatus {
		g.total(descIAnswers, n, id, class)
	}
	if in.Figures.Rate > 0 {
		g.gauge(descLatency, in.Figures.P50, id, "0.5")
		g.gauge(descLatency, in.Figures.P99, id, "0.99")
	}
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
