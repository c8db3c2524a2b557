package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/size"
	"github.com/fettle-dev/fettle/core/tune"
)

// State is all that decides about one pool: rebuilt by folding events alone. It holds no profile; verdicts come in as
// events. It is not safe for concurrent use: one loop owns it.
type State struct {
	d data

	byID  map[ft.InstanceID]*member // looked up, never ranged over
	slots []*member                 // by slot; nil where free
	free  []ft.Slot                 // descending: the last is the least
	heap  heap                      // of members, by when Next must look at them
	sum   sums
}

// data is what a snapshot holds.
type data struct {
	Pool     ft.Pool        `json:"pool"`
	Desired  int            `json:"desired"`
	Serial   uint32         `json:"serial"`    // the highest given to an instance
	Action   uint64         `json:"action"`    // the highest given to an action
	LastOp   ft.OperationID `json:"operation"` // the highest given to an operation
	Members  []*member      `json:"members"`   // by serial
	Ops      []*operation   `json:"operations,omitempty"`
	Loose    []*ft.Action   `json:"loose,omitempty"` // intended outside of operations
	Groups   []group        `json:"groups,omitempty"`
	Floor    size.Floor     `json:"floor,omitzero"`
	Verdict  ft.Verdict     `json:"verdict,omitzero"` // the pool's
	Text     string         `json:"text,omitempty"`
	Evidence []ft.Evidence  `json:"evidence,omitempty"`
	Figures  ft.Figures     `json:"figures,omitzero"`
	Demand   ft.Demand      `json:"demand,omitzero"`
	Spent    []disruption   `json:"spent,omitempty"`
	Refused  []refusal      `json:"refused,omitempty"`
	Rebase   string         `json:"rebase,omitempty"` // accept or forget, for the whole pool
	Rebased  string         `json:"rebasedBy,omitempty"`
	Create   creation       `json:"creation,omitzero"`
	Began    time.Time      `json:"began,omitzero"`
	Seen     bool           `json:"seen,omitempty"`    // frames came since Began
	HoldOff  bool           `json:"holdOff,omitempty"` // as said
	Breaker  bool           `json:"breaker,omitempty"` // as said
	Calm     time.Time      `json:"calm,omitzero"`     // since when few enough look unhealthy
	Paused   bool           `json:"paused,omitempty"`
	By       string         `json:"pausedBy,omitempty"`
	Stop     bool           `json:"stop,omitempty"`
	Journal  string         `json:"journal,omitempty"` // why it fails
	Said     string         `json:"said,omitempty"`    // the last thing declined for the pool
	Knobs    []knobRecord   `json:"knobs,omitempty"`
}

// creation is the brake on starts: pool-wide backoff after failed ones.
type creation struct {
	Fails int       `json:"fails,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Why   string    `json:"why,omitempty"`
	On    bool      `json:"on,omitempty"` // the breaker, as said
}

// disruption is one planned operation that began, for the rolling budget.
type disruption struct {
	At     time.Time `json:"at"`
	Manual bool      `json:"manual,omitempty"`
}

// refusal is a command that cannot be carried out, to be answered.
type refusal struct {
	Target ft.InstanceID `json:"target,omitempty"`
	Text   string        `json:"text"`
}

// group is what interned row groups stand for.
type group struct {
	Work   ft.Work `json:"work,omitzero"`
	Digest string  `json:"digest,omitempty"`
}

// knobRecord is how trials of a knob ended in this pool.
type knobRecord struct {
	Knob   string `json:"knob"`
	Trials int    `json:"trials"`
	Kept   int    `json:"kept"`
}

// member is one instance that is not gone.
type member struct {
	In    ft.Instance `json:"instance"`
	Phase ft.Phase    `json:"phase"`
	Alive bool        `json:"alive,omitempty"` // a process runs
	Group uint32      `json:"group"`
	Knobs []ft.Knob   `json:"knobs,omitempty"`
	Turns uint32      `json:"turns,omitempty"` // settings changed for good so often

	Verdict  ft.Verdict    `json:"verdict"`
	Text     string        `json:"text,omitempty"`
	Evidence []ft.Evidence `json:"evidence,omitempty"`
	Forecast *ft.Foreseen  `json:"forecast,omitempty"`
	AtLeast  [4]ft.Instant `json:"atLeast,omitzero"`   // since when the level is Low, Medium, High, Critical or higher
	Same     ft.Instant    `json:"sameCause,omitzero"` // since when the cause is the present one
	Changed  ft.Instant    `json:"changed,omitzero"`   // last change of the verdict
	Fell     ft.Instant    `json:"fell,omitzero"`      // when the score last fell
	Calm     ft.Instant    `json:"calm,omitzero"`      // since when it has not drifted, 0 while it does
	Story    *story        `json:"story,omitempty"`    // of the drift or fault that is being dealt with
	Quiet    string        `json:"quiet,omitempty"`    // why nothing is done
	Rule     string        `json:"rule,omitempty"`     // of what was declined last
	LookAt   ft.Instant    `json:"lookAt,omitzero"`    // not before that, unless the verdict changes
	SoftAt   ft.Instant    `json:"softAt,omitzero"`    // last soft reset of this life
	Serves   ft.Instant    `json:"serves,omitzero"`    // since when it is in service

	Dead      *ft.Exit       `json:"dead,omitempty"`
	Barred    ft.Instant     `json:"barred,omitzero"` // nothing is decided about it before, since what was decided was withdrawn
	Early     *ft.Exited     `json:"early,omitempty"` // an exit reported before the verb that made the life
	Silent    *silence       `json:"silent,omitempty"`
	Over      *ft.Exceeded   `json:"over,omitempty"`
	Restarts  []ft.Instant   `json:"restarts,omitempty"` // by faults, the last hour's
	RestartAt time.Time      `json:"restartAt,omitzero"`
	Op        ft.OperationID `json:"operation,omitempty"`
	Replaces  ft.InstanceID  `json:"replaces,omitempty"` // it is the replacement in an eviction
	Surge     bool           `json:"surge,omitempty"`    // it was started to stand in for another
	Readmit   bool           `json:"readmit,omitempty"`  // a new brain tells the front of it
	Escalate  bool           `json:"escalate,omitempty"` // its soft reset failed
	Error     string         `json:"error,omitempty"`
	Wish      *wish          `json:"wish,omitempty"`
	Rebase    string         `json:"rebase,omitempty"` // accept or forget
	RebaseBy  string         `json:"rebaseBy,omitempty"`
	Loose     uint64         `json:"loose,omitempty"` // pending action outside of an operation

	Trial   *tune.Trial   `json:"trial,omitempty"`
	Revert  *ft.Setting   `json:"revert,omitempty"`
	Raised  []raise       `json:"raised,omitempty"`
	Vain    []vain        `json:"vain,omitempty"`
	Pinned  []string      `json:"pinned,omitempty"`
	History []tune.Sample `json:"history,omitempty"`
	Memory  float64       `json:"memory,omitempty"` // resident bytes, last told

	no     uint32 // its serial
	slot   ft.Slot
	at     int   // index in the heap, -1 if not there
	due    int64 // when Next must look, nanoseconds
	counts sums  // what it adds to the sums
}

// story is what began with a drift or a fault and ends when the instance is steady again.
type story struct {
	Of    ft.Ref    `json:"of"` // the life it began with
	Since time.Time `json:"since"`
	What  string    `json:"what"`
	Peak  float32   `json:"peak,omitempty"` // score when the last step was taken
	Tried uint16    `json:"tried,omitempty"`
	Last  string    `json:"last,omitempty"` // the last step, in words
	Acted time.Time `json:"acted,omitzero"` // when it began
	Ended time.Time `json:"ended,omitzero"` // when it ended
	Light bool      `json:"light,omitempty"`
	Meant time.Time `json:"meant,omitzero"`  // when it was last called normal
	Means uint8     `json:"means,omitempty"` // how often it was
	Fault bool      `json:"fault,omitempty"` // a hard fault, not drift
}

// silence is an instance that does not answer.
type silence struct {
	Since  time.Time `json:"since"`
	Probe  string    `json:"probe"`
	Detail string    `json:"detail,omitempty"`
	Act    time.Time `json:"act"` // when something is done about it
}

// wish is a manual action that waits for its turn.
type wish struct {
	Kind  ft.Operation `json:"kind"`
	Set   *ft.Setting  `json:"set,omitempty"`
	Force bool         `json:"force,omitempty"`
	By    string       `json:"by"`
	Asked string       `json:"asked"` // the command's kind
}

// raise is a setting that a trial kept.
type raise struct {
	Setting ft.Setting `json:"setting"`
	Was     ft.Setting `json:"was"`
	At      ft.Instant `json:"at"`
}

// vain is a knob whose trial did not help.
type vain struct {
	Knob string     `json:"knob"`
	At   ft.Instant `json:"at"`
}

// New begins the state of a pool whose defaults are filled.
func New(pool ft.Pool) *State {
	s := &State{d: data{Pool: pool, Desired: pool.Size.Min}}
	s.index()
	return s
}

// Pool is the pool's desired state; it is not to be changed.
func (s *State) Pool() *ft.Pool { return &s.d.Pool }

// Snapshot is the state as JSON, from which [Restore] makes one that decides the same.
func (s *State) Snapshot() ([]byte, error) {
	b, err := json.Marshal(&s.d)
	if err != nil {
		return nil, fmt.Errorf("snapshot of pool %s: %w", s.d.Pool.Name, err)
	}
	return b, nil
}

// Restore is the inverse of [State.Snapshot].
func Restore(b []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(b, &s.d); err != nil {
		return nil, fmt.Errorf("restore a pool's state: %w", err)
	}
	for i, m := range s.d.Members {
		if m != nil {
			m.no = m.In.ID.Serial()
		}
		if m == nil || i > 0 && s.d.Members[i-1].no >= m.no {
			return nil, fmt.Errorf("restore a pool's state: members are out of order: %w", ft.ErrInvalid)
		}
	}
	for i, o := range s.d.Ops {
		if o == nil || i > 0 && s.d.Ops[i-1].ID >= o.ID {
			return nil, fmt.Errorf("restore a pool's state: operations are out of order: %w", ft.ErrInvalid)
		}
	}
	s.index()
	return s, nil
}

// index rebuilds all that is derived from the data.
func (s *State) index() {
	s.byID = make(map[ft.InstanceID]*member, len(s.d.Members))
	s.slots, s.free, s.heap, s.sum = nil, nil, nil, sums{}
	for _, m := range s.d.Members {
		s.place(m)
	}
}

// place gives a member the least free slot and indexes it.
func (s *State) place(m *member) {
	if n := len(s.free); n > 0 {
		m.slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		m.slot = ft.Slot(len(s.slots))
		s.slots = append(s.slots, nil)
	}
	s.slots[m.slot] = m
	s.byID[m.In.ID] = m
	m.at, m.counts = -1, sums{}
	s.touch(m)
}

// add makes a member for a Ref not known yet.
func (s *State) add(ref ft.Ref, w ft.Work) *member {
	m := &member{In: ft.Instance{Ref: ref, Work: w}, no: ref.ID.Serial()}
	i, _ := slices.BinarySearchFunc(s.d.Members, ref.ID.Serial(), func(m *member, serial uint32) int { return cmp.Compare(m.serial(), serial) })
	s.d.Members = slices.Insert(s.d.Members, i, m)
	s.d.Serial = max(s.d.Serial, ref.ID.Serial())
	s.place(m)
	return m
}

// remove forgets a member that is gone.
func (s *State) remove(m *member) {
	i, ok := slices.BinarySearchFunc(s.d.Members, m.serial(), func(m *member, serial uint32) int { return cmp.Compare(m.serial(), serial) })
	if !ok {
		return
	}
	s.d.Members = slices.Delete(s.d.Members, i, i+1)
	delete(s.byID, m.In.ID)
	s.slots[m.slot] = nil
	at, _ := slices.BinarySearchFunc(s.free, m.slot, func(a, b ft.Slot) int { return cmp.Compare(b, a) })
	s.free = slices.Insert(s.free, at, m.slot)
	s.heap.drop(m)
	s.sum.add(m.counts, -1)
	m.counts = sums{}
}

// op finds an operation under way.
func (s *State) op(id ft.OperationID) *operation {
	if id == 0 {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.d.Ops, id, func(o *operation, id ft.OperationID) int { return cmp.Compare(o.ID, id) })
	if !ok {
		return nil
	}
	return s.d.Ops[i]
}

// member finds the one of an ID.
func (s *State) member(id ft.InstanceID) *member { return s.byID[id] }

// life finds the member whose present life the Ref names.
func (s *State) life(r ft.Ref) *member {
	if m := s.byID[r.ID]; m != nil && m.In.Generation == r.Generation {
		return m
	}
	return nil
}

func (m *member) serial() uint32 { return m.no }

// serving tells whether work can reach it.
func (m *member) serving() bool {
	return m.Alive && m.Silent == nil && (m.Phase == ft.Ready || m.Phase == ft.Leased)
}

// lasted is how long the level, or a higher one, and the cause have held.
func (m *member) lasted(l ft.Level, now time.Time) time.Duration {
	if l < ft.Low || m.AtLeast[l-ft.Low] == 0 {
		return 0
	}
	return now.Sub(max(m.AtLeast[l-ft.Low], m.Same).Time())
}

// sums are counts over members, kept up to date as members change.
type sums struct {
	Running   int // a process runs or is being made
	Ready     int // in service
	Counted   int // towards the size: neither quarantined nor on its way out nor a replacement
	Lost      int // of Counted: dead without an operation under way
	Drifting  int // Low or higher
	Unhealthy int // dead, silent, over a limit, or High or higher for a reason of its own
	Trials    int // under way or about to be
	Surge     int // stand-ins that count towards the size
	Busy      int // being dealt with, or asked to be
}

func (a *sums) add(b sums, sign int) {
	a.Running += sign * b.Running
	a.Ready += sign * b.Ready
	a.Counted += sign * b.Counted
	a.Lost += sign * b.Lost
	a.Drifting += sign * b.Drifting
	a.Unhealthy += sign * b.Unhealthy
	a.Trials += sign * b.Trials
	a.Surge += sign * b.Surge
	a.Busy += sign * b.Busy
}

// touch brings sums and the heap up to date after a member changed.
func (s *State) touch(m *member) {
	s.sum.add(m.counts, -1)
	m.counts = s.count(m)
	s.sum.add(m.counts, 1)
	m.due = s.dueAt(m)
	if m.Op == 0 {
		m.due = max(m.due, int64(m.Barred))
	}
	s.heap.fix(m)
}

// count is what a member adds to the sums.
func (s *State) count(m *member) (c sums) {
	o := s.op(m.Op)
	leaving := o != nil && (o.Kind == ft.Shrink || o.Failing && o.Kind != ft.Evict)
	b := func(n *int, is bool) {
		if is {
			*n = 1
		}
	}
	coming := o != nil && (o.Kind == ft.Grow || o.Kind == ft.Replace || o.Kind == ft.FullResetting || m.Replaces != "")
	waits := !m.Alive && o == nil && m.Barred != 0 // its start was withdrawn: it is waited for
	b(&c.Running, m.Phase != ft.Gone && (m.Alive || coming || waits))
	b(&c.Ready, m.serving())
	replaced := o != nil && o.Kind == ft.Evict && m.Replaces == "" // counts until its replacement does
	b(&c.Counted, m.Phase != ft.Quarantined && (m.Phase != ft.Gone || replaced) && !leaving && m.Replaces == "")
	b(&c.Lost, c.Counted == 1 && !m.Alive && o == nil && !waits)
	b(&c.Drifting, m.Alive && m.Verdict.Level >= ft.Low)
	b(&c.Unhealthy, c.Counted == 1 && m.Phase != ft.Gone && !waits && m.unhealthy(o))
	b(&c.Trials, m.Trial != nil || o != nil && o.Kind == ft.Retune && !declared(o.Reason.Rule))
	b(&c.Surge, m.Surge && c.Counted == 1)
	b(&c.Busy, m.Alive && c.Counted == 1 && (m.Story != nil || m.Wish != nil || m.Over != nil || m.Escalate || m.Verdict.Level >= ft.High))
	return c
}

// unhealthy tells whether the breaker counts it.
func (m *member) unhealthy(o *operation) bool {
	starting := o != nil && o.Kind == ft.Grow
	if !m.Alive && !starting || m.Silent != nil || m.Over != nil {
		return true
	}
	v := &m.Verdict
	return v.Level >= ft.High && v.Cause != ft.WorkloadChanged && v.Cause != ft.DependencyChanged && v.Extent != ft.WholePool
}

// declared rules of settings are no trials: a person's, and the way back.
func declared(rule string) bool {
	return rule == ruleManual || rule == ruleForced || rule == ruleRevert
}
