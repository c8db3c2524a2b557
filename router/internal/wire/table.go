// Package wire is what the router and its control side say to each other: see the documentation of package router
// for the protocol.
package wire

import (
	"fmt"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// Categories is the number of route counts of a member; the last is for all routes without a label.
const Categories = 32

// Statuses is the number of counts of answers by class: the first is of requests without an answer, or without its
// end; then 1xx to 5xx.
const Statuses = 6

// Table is all that the router needs to know of one pool. It is declarative: applying it twice changes nothing.
type Table struct {
	Pool ft.PoolName `json:"pool"`
	// Epoch grows with each change; the router refuses a table whose epoch is less than that of the one it has.
	Epoch uint64 `json:"epoch"`
	// Listen is the address as configured; the real one is the listener's.
	Listen      string      `json:"listen"`
	Route       ft.Route    `json:"route"`
	Concurrency int         `json:"concurrency,omitempty"`
	Readiness   *ft.Probe   `json:"readiness,omitempty"`
	Env         []string    `json:"env,omitempty"` // of command probes
	Dir         string      `json:"dir,omitempty"` // of command probes
	Silence     ft.Duration `json:"silence,omitempty"`
	Interval    ft.Duration `json:"interval"`
	// Labels are the routes found so far: a restarted router goes on with the same order.
	Labels  []string `json:"labels,omitempty"`
	Members []Member `json:"members"`
}

// Member is an instance in a table.
type Member struct {
	Ref         ft.Ref      `json:"ref"`
	Endpoint    ft.Endpoint `json:"endpoint"`
	Weight      float64     `json:"weight"`
	Draining    bool        `json:"draining,omitempty"`
	Concurrency int         `json:"concurrency,omitempty"` // 0: the table's
	Since       time.Time   `json:"since"`                 // when it was admitted: slow start counts from here
}

// Validate says what is wrong with a table that came over the wire.
func (t *Table) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("table of pool %q: %s: %w", t.Pool, fmt.Sprintf(format, a...), ft.ErrInvalid)
	}
	if t.Pool == "" {
		return bad("has no name")
	}
	if t.Interval <= 0 {
		return bad("interval %s is not above 0", t.Interval)
	}
	if len(t.Labels) >= Categories {
		return bad("%d labels, at most %d", len(t.Labels), Categories-1)
	}
	seen := make(map[ft.InstanceID]bool, len(t.Members))
	for _, m := range t.Members {
		switch {
		case m.Ref.ID == "":
			return bad("a member has no name")
		case seen[m.Ref.ID]:
			return bad("%s is there twice", m.Ref.ID)
		case m.Endpoint.Network != "tcp" && m.Endpoint.Network != "unix", m.Endpoint.Address == "":
			return bad("%s has no endpoint: %s", m.Ref, m.Endpoint)
		case !(m.Weight >= 0 && m.Weight <= 1):
			return bad("weight %g of %s is not between 0 and 1", m.Weight, m.Ref)
		case strings.ContainsAny(string(m.Ref.ID), "\r\n"):
			return bad("%q is no name", m.Ref.ID)
		}
		seen[m.Ref.ID] = true
	}
	return nil
}

// Find is the index of a member, -1 where there is none.
func (t *Table) Find(ref ft.Ref) int {
	for i := range t.Members {
		if t.Members[i].Ref == ref {
			return i
		}
	}
	return -1
}

// Clone copies the table so that it can be changed.
func (t *Table) Clone() *Table {
	c := *t
	c.Members = append([]Member(nil), t.Members...)
	c.Labels = append([]string(nil), t.Labels...)
	return &c
}
