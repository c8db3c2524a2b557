package plan

import ft "github.com/fettle-dev/fettle"

// The phases of an instance and the verbs that move it. A verb moves when it is intended (->) and again when it
// finished (=>); a verb that failed leaves what stands after "failed". Exits and losses lead to Cold from anywhere,
// from where a full reset or a stop goes on.
//
//	Cold ---Start--> Warming ===Admit==> Ready/Leased ---Drain--> Draining
//	  ^    failed: Cold ^                                            |
//	  |                 |                            SoftReset, FullReset
//	  |                 |                                            v
//	  |                 +=============(done)===================== Resetting
//	  +==== FullReset failed: nothing is left running ==============/    SoftReset failed: Draining
//
//	any ---Stop--> Draining ==> Gone          any ===Quarantine==> Quarantined
//	Specialize, Tune, Rebaseline and Weigh move nothing.
type move struct {
	from   phases   // where the verb may be intended
	during ft.Phase // while it is carried out
	done   ft.Phase
	failed ft.Phase
	stays  bool // the verb moves nothing
}

// phases is a set of phases.
type phases uint16

func in(ps ...ft.Phase) phases {
	var m phases
	for _, p := range ps {
		m |= 1 << p
	}
	return m
}

func (m phases) has(p ft.Phase) bool { return m>>p&1 != 0 }

// moveOf is the row of the transition table for a verb.
func moveOf(v ft.Verb) move {
	any := in(ft.Cold, ft.Warming, ft.Ready, ft.Leased, ft.Draining, ft.Resetting, ft.Quarantined)
	switch v {
	case ft.Start:
		return move{from: in(ft.Cold), during: ft.Warming, done: ft.Warming, failed: ft.Cold}
	case ft.Admit:
		return move{from: in(ft.Warming, ft.Draining, ft.Ready, ft.Leased), during: ft.Warming, done: ft.Ready, failed: ft.Warming}
	case ft.Drain:
		return move{from: in(ft.Ready, ft.Leased, ft.Draining, ft.Warming), during: ft.Draining, done: ft.Draining, failed: ft.Draining}
	case ft.SoftReset:
		return move{from: in(ft.Draining, ft.Warming), during: ft.Resetting, done: ft.Warming, failed: ft.Draining}
	case ft.FullReset:
		return move{from: any, during: ft.Resetting, done: ft.Warming, failed: ft.Cold}
	case ft.Stop:
		return move{from: any, during: ft.Draining, done: ft.Gone, failed: ft.Draining}
	case ft.Quarantine:
		return move{from: any, during: ft.Draining, done: ft.Quarantined, failed: ft.Draining}
	case ft.Specialize, ft.Tune, ft.Rebaseline, ft.Weigh:
		return move{from: any, stays: true}
	}
	return move{stays: true}
}
