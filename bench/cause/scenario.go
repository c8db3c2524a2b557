package main

import (
	ft "github.com/fettle-dev/fettle"
)

// kind is what happens in a scenario.
type kind string

const (
	control     kind = "control" // nothing
	loadUp      kind = "load up"
	loadDown    kind = "load down"
	routes      kind = "new route mix"
	payloads    kind = "bigger payloads"
	leak        kind = "leak"
	lock        kind = "slow lock"
	spin        kind = "CPU spin"
	descriptors kind = "descriptor leak"
	forget      kind = "cache loss"
	dependency  kind = "slow dependency"
)

// trace tells how much of it stays in an instance: heaps keep the size that large requests and leaks gave them, or are smaller
// than before. What leaves more comes later.
func (k kind) trace() int {
	switch k {
	case payloads:
		return 1
	case leak:
		return 2
	default:
		return 0
	}
}

// scenario is a kind that happens to one instance or to all.
type scenario struct {
	kind kind
	all  bool
}

func (s scenario) String() string {
	switch {
	case s.kind == control:
		return string(s.kind)
	case s.all:
		return string(s.kind) + ", all"
	}
	return string(s.kind) + ", one"
}

// scenarios are all, in the order in which they are told.
func scenarios() []scenario {
	out := []scenario{{control, true}}
	for _, k := range []kind{loadUp, loadDown, routes, payloads, leak, lock, spin, descriptors, forget} {
		out = append(out, scenario{k, false}, scenario{k, true})
	}
	return append(out, scenario{dependency, true})
}

// truth is the answer that is right.
func (s scenario) truth() answer {
	a := answer{extent: ft.ThisInstance, cause: ft.InstanceChanged}
	if s.all {
		a.extent = ft.WholePool
	}
	switch s.kind {
	case control:
		return answer{}
	case loadUp, loadDown, routes, payloads:
		a.cause = ft.WorkloadChanged
	case dependency:
		a.cause = ft.DependencyChanged
	case leak, lock, spin, descriptors, forget:
	}
	return a
}
