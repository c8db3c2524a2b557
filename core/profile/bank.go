package profile

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

// The numbers of a profile's parts.
const (
	Recent  = 7  // innovations kept of each column: the median of them withstands three wild rows
	Spans   = 3  // spans over which innovations are smoothed
	Scales  = 4  // intervals whose minima are kept of unbounded columns
	Minima  = 16 // minima kept of each
	Windows = 2  // spans over which category counts are summed
	Streams = 3  // ways to look at a row over longer times: its level, its deviation from the last hours, its change
	Leans   = 2  // of these, those whose smoothed innovations are kept: level and deviation
	Bins    = 48 // of a day
	Fades   = 5  // spans over which the sum of the streams is smoothed
	Alerts  = 3  // of these, the first ones, by which alarms are
)

// Shape is the size of a bank's vectors. Columns are in the judge's order: intake, load, response.
type Shape struct {
	Columns    int // d, at most [ft.MaxDimensions]
	Work       int // leading columns that responses are conditioned on
	Slow       int // last columns, which have a reading in some frames only
	Unbounded  int // columns whose slope is watched
	Categories int // in all sets
	Sets       int // of categories
}

// The most categories, and sets of them, that a shape may have.
const (
	MaxCategories = ft.MaxCategories
	MaxSets       = 8
)

func (s Shape) check() error {
	for _, n := range [...]struct{ n, most int }{
		{s.Columns, ft.MaxDimensions},
		{s.Work, s.Columns},
		{s.Slow, s.Columns - s.Work},
		{s.Unbounded, s.Columns},
		{s.Categories, MaxCategories},
		{s.Sets, MaxSets},
	} {
		if n.n < 0 || n.n > n.most {
			return fmt.Errorf("profile: shape %+v is out of range", s)
		}
	}
	return nil
}

// Head is the part of a profile that has fixed fields.
type Head struct {
	Life      ft.Life
	Group     int32 // index of its group in the bank
	Settings  uint32
	Ever      ft.Dims        // columns that ever had a value
	Counts    ft.Dims        // columns with enough values of their own to count in a verdict
	Rows      float64        // rows that the location rests on
	Need      float64        // rows after which it is judged
	Lived     float64        // rows seen of this life
	Candidate float64        // rows that the candidate rests on
	Prior     bool           // began from its group's location
	Anchored  bool           // the anchor is set
	Norm      [Spans]float64 // healthy mean of the self channel's quadratic forms
	PeersNorm [Spans]float64 // the same of the peers channel
	Filled    [Scales]int32  // minima seen of each scale, at most Minima
	Long      Long
}

// Long is the part of a profile that looks at longer times and has fixed fields. Medians are those of healthy time, as
// logarithms.
type Long struct {
	Had    ft.Dims          // columns that ever had a value
	Broken bool             // rows are missing before the next one
	Bucket float64          // number of the row under way, 0 for none
	Count  float64          // frames in it
	Rows   float64          // rows so far
	Heavy  [Streams]float64 // the same by what they taught
	Usual  [Streams]float64 // median of each stream's form
	Ranks  [Fades]float64   // smoothed sums of the streams
	Warns  [Alerts]float64  // the same of those that alarms are by
	Rank   float64          // median of the mean of Ranks
	Warn   float64          // median of the mean of Warns
	Work   float64          // smoothed form of the level's work columns
	// What is usual of the level's form by now: what lasts is adopted.
	Level, Recent, Lasts float64
}

// Calm takes the smoothed sums for usual.
func (l *Long) Calm() {
	for k := range l.Ranks {
		l.Ranks[k] = math.Exp(l.Rank)
	}
	for k := range l.Warns {
		l.Warns[k] = math.Exp(l.Warn)
	}
}

// floats are the numbers of l, in the order of a checkpoint.
func (l *Long) floats() []*float64 {
	out := []*float64{&l.Bucket, &l.Count, &l.Rows, &l.Rank, &l.Warn, &l.Work, &l.Level, &l.Recent, &l.Lasts}
	for _, v := range [...][]float64{l.Heavy[:], l.Usual[:], l.Ranks[:], l.Warns[:]} {
		for i := range v {
			out = append(out, &v[i])
		}
	}
	return out
}

// Profile is a view of one instance's state; it is valid until the next profile is added to its bank.
type Profile struct {
	*Head
	// Learnt.
	Mu        []float64 // location of each column after its transform
	Anchor    []float64 // the location of the first baseline, never updated
	Cand      []float64 // location of the candidate while the profile is frozen
	Seen      []float64 // values that the location of each column rests on
	Fast      []float64 // recent location of the work columns, for steps of load
	Ref       []float64 // reference counts of the categories
	RefCand   []float64 // the same of the candidate
	Reference []float64 // [set] counts that its reference rests on
	Lent      []float64 // [set] of these, those that were the group's
	Fed       []float64 // [set] readings that its reference rests on
	Minima    []float64 // [scale][unbounded column][Minima], oldest first
	Lowest    []float64 // [scale][unbounded column], of the interval under way
	// Of longer times.
	Sum, Sums []float64 // the row under way: sums of the values, and how many
	Prev      []float64 // the row before
	Hours     []float64 // mean of the last hours
	Peak      []float64 // greatest magnitude
	Stream    []float64 // [stream][column]: means of the streams
	Lean      []float64 // [lean][column]: smoothed innovations of level and deviation
	Day       []float64 // mean of the last days
	Along     []float64 // how the column goes along with the season: its product with it
	Square    []float64 // and the square of that
	// The streams of the last seconds.
	Hist      []float64 // [column][Recent]: the self channel's innovations
	PeersHist []float64 // the same of the peers channel
	Self      []float64 // [span][column], smoothed
	Peers     []float64 // [span][column]
	Window    []float64 // [window][category], decayed counts
	Grown     []float64 // [scale][unbounded column], growth over the minima beyond that of the peers
	Last      []float64 // [slow column] its last reading
	Ago       []float64 // [slow column] rows since then, 0 before the first
	Waits     []float64 // [set] rows since it had counts
}

// GroupHead is the part of a group's scatter that has fixed fields.
type GroupHead struct {
	ID       uint32  // as in [ft.Row]
	Ever     ft.Dims // columns that its location knows
	Known    ft.Dims // columns that its scatter knows
	Late     ft.Dims // of these, those that did not come with the first: they have counts of their own
	Rows     float64 // rows that the scatter rests on
	Located  float64 // rows that the shared location rests on
	Streamed float64 // rows that Var and PVar rest on
	Grew     [Scales]float64
	Pending  float64 // rows since the factor was refreshed
	Factored bool
	Last     uint64 // tick of its last row
	Long     GroupLong
}

// GroupLong is the part of a group that looks at longer times and has fixed fields.
type GroupLong struct {
	Heavy   [Streams]float64 // rows that each stream's scatter rests on, by what they taught
	Pending [Streams]float64 // rows since its factor was refreshed
	Members float64          // that teach it, smoothed
	Known   float64          // half hours that the season rests on
	Bin     float64          // of the day, that goes on
	Count   float64          // rows in it
	Begun   bool
	Ready   bool             // the streams of one member are known
	Usual   [Streams]float64 // medians of that member, for those that begin
	Rank    float64
	Warn    float64
}

func (l *GroupLong) floats() []*float64 {
	out := []*float64{&l.Members, &l.Known, &l.Bin, &l.Count, &l.Rank, &l.Warn}
	for _, v := range [...][]float64{l.Heavy[:], l.Pending[:], l.Usual[:]} {
		for i := range v {
			out = append(out, &v[i])
		}
	}
	return out
}

// Group is a view of what the instances of a specialization share.
type Group struct {
	*GroupHead
	Mu     []float64 // mean location of its members
	Fast   []float64 // recent work of a member, for those that begin
	Cov    []float64 // packed, of the deviations from the members' own locations
	Var    []float64 // [span][column]: healthy mean square of the self channel's smoothed innovations
	PVar   []float64 // the same of the peers channel
	Growth []float64 // [scale][unbounded column]: healthy mean square of growth over the minima
	Seen   []float64 // values that the scatter of each late column rests on
	Tuned  []float64 // values that Var and PVar of each late column rest on
	Ref    []float64 // mean category reference of its members
	// Of each set: the correlation of counts in healthy windows, how much more than their number tells the references
	// of members differ, and the rows that these rest on.
	Rho, RhoRows, Spread, SpreadRows []float64
	// Of longer times.
	StreamMu  []float64 // [stream][column]: mean location of its members
	StreamCov []float64 // [stream], packed
	StreamL   []float64 // [stream], packed factors
	Season    []float64 // [bin][column]: deviation from the day's mean at that time of day
	Binned    []float64 // [bin] days that it rests on
	BinSum    []float64 // of the bin that goes on
	Middle    []float64 // of Season over the day
	Vary      []float64 // variance around the day's mean
	// Derived from the above.
	L     []float64 // packed factor of Cov
	Inv   []float64 // [span][column]: 1 over the healthy scale of the self channel's smoothed innovations
	PInv  []float64 // the same of the peers channel
	Scale []float64 // standard deviation of each column, with its floor
}

// Bank holds the profiles of one pool in a slab with a fixed stride, without pointers, and its groups likewise. It is
// not safe for concurrent use.
type Bank struct {
	shape   Shape
	heads   []Head
	slab    []float64
	stride  int
	free    []int32
	groups  []GroupHead
	gslab   []float64
	gstride int
	index   map[uint32]int32
	// Tails are the thresholds' calibrations, one for each part of a verdict.
	Tails []stat.Runs
}

// NewBank makes an empty bank.
func NewBank(s Shape) (*Bank, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	d, c, u := s.Columns, s.Categories, s.Unbounded
	b := &Bank{shape: s, index: make(map[uint32]int32)}
	b.stride = (4+2*Recent+2*Spans+8+Streams+Leans)*d + s.Work + (2+Windows)*c + 4*s.Sets + Scales*u*(Minima+2) + 2*s.Slow
	b.gstride = (4+4*Spans+Streams+Bins+3)*d + Bins + s.Work + (2+2*Streams)*stat.PackedLen(d) + Scales*u + c + 4*s.Sets
	return b, nil
}

// Shape is the shape that the bank was made for.
func (b *Bank) Shape() Shape { return b.shape }

// Len is one more than the largest index of a profile.
func (b *Bank) Len() int { return len(b.heads) }

// Groups is the number of groups.
func (b *Bank) Groups() int { return len(b.groups) }

// StateBytes is the memory that one profile takes, but for some padding.
func (b *Bank) StateBytes() int { return 8*b.stride + headBytes }

// Add makes a profile, all zero, and returns its index.
func (b *Bank) Add(life ft.Life, group int32) int32 {
	var i int32
	if n := len(b.free); n > 0 {
		i, b.free = b.free[n-1], b.free[:n-1]
	} else {
		i = int32(len(b.heads))
		b.heads = append(b.heads, Head{})
		b.slab = append(b.slab, make([]float64, b.stride)...)
	}
	clear(b.slab[int(i)*b.stride : int(i+1)*b.stride])
	b.heads[i] = Head{Life: life, Group: group}
	return i
}

// Free gives a profile back.
func (b *Bank) Free(i int32) {
	b.heads[i] = Head{Group: -1}
	b.free = append(b.free, i)
}

// At is the profile with an index that [Bank.Add] gave.
func (b *Bank) At(i int32) Profile {
	d, c, u, n := b.shape.Columns, b.shape.Categories, b.shape.Unbounded, b.shape.Sets
	rest := b.slab[int(i)*b.stride : int(i+1)*b.stride]
	take := func(n int) []float64 {
		v := rest[:n:n]
		rest = rest[n:]
		return v
	}
	return Profile{
		Head: &b.heads[i],
		Mu:   take(d), Anchor: take(d), Cand: take(d), Seen: take(d), Fast: take(b.shape.Work),
		Ref: take(c), RefCand: take(c), Reference: take(n), Lent: take(n), Fed: take(n),
		Minima: take(Scales * u * Minima), Lowest: take(Scales * u),
		Sum: take(d), Sums: take(d), Prev: take(d), Hours: take(d), Peak: take(d), Stream: take(Streams * d), Lean: take(Leans * d),
		Day: take(d), Along: take(d), Square: take(d),
		Hist: take(Recent * d), PeersHist: take(Recent * d), Self: take(Spans * d), Peers: take(Spans * d),
		Window: take(Windows * c), Grown: take(Scales * u), Last: take(b.shape.Slow), Ago: take(b.shape.Slow), Waits: take(n),
	}
}

// Find is the index of a life's profile, -1 where it has none.
func (b *Bank) Find(life ft.Life) int32 {
	for i := range b.heads {
		if b.heads[i].Life == life && b.heads[i].Group >= 0 {
			return int32(i)
		}
	}
	return -1
}

// Order is the indices of all profiles by their lives: the order of a checkpoint.
func (b *Bank) Order() []int32 {
	var order []int32
	for i := range b.heads {
		if b.heads[i].Group >= 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(i, k int32) int { return cmp.Compare(b.heads[i].Life, b.heads[k].Life) })
	return order
}

// Quiet forgets the streams of the last seconds.
func (p *Profile) Quiet() {
	for _, v := range [...][]float64{p.Hist, p.PeersHist, p.Self, p.Peers, p.Window, p.Grown} {
		clear(v)
	}
	p.Long.Broken = true
}

// ForgetLong forgets what was seen over longer times.
func (p *Profile) ForgetLong() {
	p.Long = Long{}
	for _, v := range [...][]float64{p.Sum, p.Sums, p.Prev, p.Hours, p.Peak, p.Stream, p.Lean, p.Day, p.Along, p.Square} {
		clear(v)
	}
}

// Reading tells whether the value v of a slow column, which is repeated from one reading to the next, is a reading: it
// differs from the last, or stayed the same for so many rows. NaN is none.
func (p *Profile) Reading(slow int, v, same float64) bool {
	ago := &p.Ago[slow]
	if *ago > 0 {
		*ago++
	}
	if v != v || *ago > 0 && v == p.Last[slow] && *ago <= same {
		return false
	}
	p.Last[slow], *ago = v, 1
	return true
}

// MinimaOf are the minima of one scale and unbounded column, oldest first; only the last Filled are meaningful.
func (p *Profile) MinimaOf(scale, column int) []float64 {
	u := len(p.Lowest) / Scales
	o := (scale*u + column) * Minima
	return p.Minima[o : o+Minima]
}

// MaxGroups bounds a bank's groups; the one not seen for longest makes room.
const MaxGroups = 4096

// IsGroup tells whether g is the group of an ID.
func (b *Bank) IsGroup(g int32, id uint32) bool {
	return g >= 0 && int(g) < len(b.groups) && b.groups[g].ID == id
}

// GroupOf finds or makes the group of an ID.
func (b *Bank) GroupOf(id uint32) (int32, bool) {
	if g, ok := b.index[id]; ok {
		return g, false
	}
	var g int32
	if len(b.groups) < MaxGroups {
		g = int32(len(b.groups))
		b.groups = append(b.groups, GroupHead{})
		b.gslab = append(b.gslab, make([]float64, b.gstride)...)
	} else {
		for i := range b.groups {
			if b.groups[i].Last < b.groups[g].Last {
				g = int32(i)
			}
		}
		delete(b.index, b.groups[g].ID)
	}
	b.ClearGroup(g)
	b.groups[g].ID = id
	b.index[id] = g
	return g, true
}

// ClearGroup forgets what a group has learnt.
func (b *Bank) ClearGroup(g int32) {
	b.groups[g] = GroupHead{ID: b.groups[g].ID}
	clear(b.gslab[int(g)*b.gstride : int(g+1)*b.gstride])
}

// Group is the group with an index that [Bank.GroupOf] gave, valid until the next group is made.
func (b *Bank) Group(g int32) Group {
	d, u, n := b.shape.Columns, b.shape.Unbounded, b.shape.Sets
	rest := b.gslab[int(g)*b.gstride : int(g+1)*b.gstride]
	take := func(n int) []float64 {
		v := rest[:n:n]
		rest = rest[n:]
		return v
	}
	return Group{
		GroupHead: &b.groups[g],
		Mu:        take(d), Fast: take(b.shape.Work), Cov: take(stat.PackedLen(d)), Var: take(Spans * d), PVar: take(Spans * d),
		Growth: take(Scales * u), Seen: take(d), Tuned: take(d), Ref: take(b.shape.Categories),
		Rho: take(n), RhoRows: take(n), Spread: take(n), SpreadRows: take(n),
		StreamMu: take(Streams * d), StreamCov: take(Streams * stat.PackedLen(d)), StreamL: take(Streams * stat.PackedLen(d)),
		Season: take(Bins * d), Binned: take(Bins), BinSum: take(d), Middle: take(d), Vary: take(d),
		L: take(stat.PackedLen(d)), Inv: take(Spans * d), PInv: take(Spans * d), Scale: take(d),
	}
}

// ScatterOf is the packed covariance of a stream and the factor of it.
func (g *Group) ScatterOf(stream int) (cov, factor []float64) {
	n := stat.PackedLen(len(g.Mu))
	return g.StreamCov[stream*n : (stream+1)*n], g.StreamL[stream*n : (stream+1)*n]
}
