package score

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// telemetry makes members whose columns follow a common load, each with noise of its own.
type telemetry struct {
	rnd         *rand.Rand
	train, test int
	size        []float64 // of each column
	missing     float64   // share of the cells
}

func (m *telemetry) member(name string) Member {
	out := Member{Name: name}
	for c := range m.size {
		out.Columns = append(out.Columns, fmt.Sprint("c", c+1))
	}
	for i := range m.train + m.test {
		row := make([]float64, len(m.size))
		for c, size := range m.size {
			row[c] = size * (1 + 0.2*math.Sin(float64(i)/40) + 0.05*m.rnd.NormFloat64())
			if m.rnd.Float64() < m.missing {
				row[c] = math.NaN()
			}
		}
		if i < m.train {
			out.Train = append(out.Train, row)
		} else {
			out.Test = append(out.Test, row)
		}
	}
	return out
}

func (m *telemetry) members(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = m.member(fmt.Sprint("m", i))
	}
	return out
}

func made(seed uint64) *telemetry {
	return &telemetry{rnd: rand.New(rand.NewPCG(seed, 1)), train: 400, test: 200, size: []float64{1, 1, 1, 1}}
}

func judged(t testing.TB, c Config, members []Member) [][]Row {
	t.Helper()
	out, err := Run(t.Context(), c, members)
	if err != nil {
		t.Fatal(err)
	}
	for i := range members {
		if len(out[i]) != len(members[i].Test) {
			t.Fatalf("%s: %d rows of %d", members[i].Name, len(out[i]), len(members[i].Test))
		}
	}
	return out
}

// same compares bit for bit.
func same(a, b Row) bool {
	bits := func(r Row) [4]uint64 {
		return [4]uint64{math.Float64bits(r.Score), math.Float64bits(r.Self), math.Float64bits(r.Peers), math.Float64bits(r.Pool)}
	}
	return bits(a) == bits(b) && a.Alarm == b.Alarm && a.Level == b.Level
}

func sameUntil(t *testing.T, what string, a, b [][]Row, until int) {
	t.Helper()
	for i := range a {
		for r := range a[i][:until] {
			if !same(a[i][r], b[i][r]) {
				t.Fatalf("%s: member %d row %d: %+v, but %+v", what, i, r, a[i][r], b[i][r])
			}
		}
	}
}

// shift moves some columns of a member by so many standard deviations, from a row of test on.
func shift(m *Member, from, until int, by float64, columns ...int) {
	for _, row := range m.Test[from:until] {
		for _, c := range columns {
			row[c] *= 1 + by*0.05
		}
	}
}

func highest(rows []Row, of func(*Row) float64) (at int, v float64) {
	v = math.Inf(-1)
	for i := range rows {
		if x := of(&rows[i]); x > v {
			at, v = i, x
		}
	}
	return at, v
}

// TestOneSickMember: it is alarmed and ranks first by its peers' channel, the others stay calm.
func TestOneSickMember(t *testing.T) {
	for _, train := range []int{400, 3000} { // with 3000 rows it is what takes hours that judges
		m := made(1)
		m.train = train
		oneSick(t, m.members(5))
	}
}

func oneSick(t *testing.T, members []Member) {
	shift(&members[3], 100, 160, 8, 0, 1)
	for i, rows := range judged(t, Config{FalseAlarms: 0.2}, members) {
		at, score := highest(rows, func(r *Row) float64 { return r.Score })
		_, peers := highest(rows, func(r *Row) float64 { return r.Peers })
		alarm := slices.IndexFunc(rows, func(r Row) bool { return r.Alarm })
		if sick := i == 3; sick && (peers < 1 || score < 1 || at < 100 || at >= 160 || alarm < 100 || alarm > 112) ||
			!sick && (peers >= 1 || alarm >= 0) {
			t.Errorf("%d rows of train, member %d: score %.2f at row %d, peers %.2f, first alarm at %d", len(members[i].Train), i, score, at, peers, alarm)
		}
	}
}

// TestAllOfAPool: what happens to all is the pool's, and each of them is in alarm though none deviates from the others.
func TestAllOfAPool(t *testing.T) {
	for _, train := range []int{400, 3000} {
		m := made(2)
		m.train = train
		allSick(t, m.members(4))
	}
}

func allSick(t *testing.T, members []Member) {
	for i := range members {
		shift(&members[i], 100, 160, 12, 0, 1, 2)
	}
	for i, rows := range judged(t, Config{}, members) {
		at, pool := highest(rows, func(r *Row) float64 { return r.Pool })
		_, peers := highest(rows, func(r *Row) float64 { return r.Peers })
		if pool < 1 || at < 100 || peers >= 1 || !rows[at].Alarm || rows[at].Score < pool {
			t.Errorf("member %d: pool %.2f at row %d, peers %.2f: %+v", i, pool, at, peers, rows[at])
		}
	}
}

// TestAlone: without peers there are no such channels, and no member knows of another.
func TestAlone(t *testing.T) {
	members := made(3).members(3)
	shift(&members[1], 100, 160, 12, 0, 1, 2)
	out := judged(t, Config{Alone: true}, members)
	for i := range members {
		one := judged(t, Config{}, members[i:i+1])
		sameUntil(t, members[i].Name, out[i:i+1], one, len(one[0]))
		for r, row := range out[i] {
			if !math.IsNaN(row.Peers) || !math.IsNaN(row.Pool) || row.Score != row.Self {
				t.Fatalf("member %d row %d: %+v", i, r, row)
			}
		}
	}
	if _, v := highest(out[1], func(r *Row) float64 { return r.Self }); v < 1 {
		t.Errorf("a shift of all columns scores %.2f", v)
	}
}

// TestCausal: whatever comes after a row, what is said of it and of those before stays the same bit for bit.
func TestCausal(t *testing.T) {
	for seed := range uint64(6) {
		m := made(10 + seed)
		m.missing = 0.02
		members := m.members(1 + int(seed)%4)
		c := Config{Alone: seed == 5}
		if seed == 3 {
			c.Roles = &Roles{Columns: []Role{{Column: "2", Role: ft.Load}, {Column: "3", Unit: "B", Unbounded: true}}}
		}
		shift(&members[0], 60, 90, 12, 0, 1)
		whole := judged(t, c, members)
		cut := 40 + m.rnd.IntN(120)
		for i := range members {
			rows := slices.Clone(members[i].Test)
			for r := cut; r < len(rows); r++ {
				rows[r] = slices.Clone(rows[r])
				for k := range rows[r] {
					switch m.rnd.IntN(4) {
					case 0:
						rows[r][k] *= 1e6
					case 1:
						rows[r][k] = math.NaN()
					case 2:
						rows[r][k] = -rows[r][k]
					}
				}
			}
			members[i].Test = rows[:len(rows)-m.rnd.IntN(len(rows)-cut)]
		}
		sameUntil(t, fmt.Sprint("seed ", seed), whole, judged(t, c, members), cut)
	}
}

// TestOtherUnits: a column without a unit is judged alike in any unit: powers of two apart, bit for bit.
func TestOtherUnits(t *testing.T) {
	for _, name := range []string{"level", "heavy tail", "load"} {
		m := made(20)
		m.missing = 0.01
		members := m.members(3)
		shift(&members[1], 100, 160, 12, 0, 2)
		c := Config{}
		if name == "load" {
			c.Roles = &Roles{Columns: []Role{{Column: "c1", Role: ft.Load}}}
		}
		if name == "heavy tail" {
			for i := range members {
				for _, row := range slices.Concat(members[i].Train, members[i].Test) {
					row[0] = math.Pow(row[0], 12)
				}
			}
		}
		before := judged(t, c, members)
		for i := range members {
			for _, row := range slices.Concat(members[i].Train, members[i].Test) {
				row[0] *= 1 << 27
				row[2] /= 1 << 10
			}
		}
		sameUntil(t, name, before, judged(t, c, members), 200)
	}
}

// TestLengths: the first test rows of all stand at one time; who comes later or goes earlier changes nothing for itself.
func TestLengths(t *testing.T) {
	members := made(30).members(3)
	members[1].Train = members[1].Train[150:]
	members[2].Test = members[2].Test[:70]
	members[0].Test[120][1] = math.NaN()
	out := judged(t, Config{}, members)
	if len(out[2]) != 70 || math.IsNaN(out[0][100].Peers) || math.IsNaN(out[0][60].Pool) {
		t.Errorf("%d rows, %+v", len(out[2]), out[0][100])
	}
	members[1].Test = members[1].Test[:70]
	out = judged(t, Config{}, members)
	if math.IsNaN(out[0][69].Peers) || !math.IsNaN(out[0][70].Peers) || !math.IsNaN(out[0][70].Pool) {
		t.Errorf("alone from row 70 on: %+v, %+v", out[0][69], out[0][70])
	}
}

// TestConstantColumns: what never varied in train is calm while it stays, whatever its value, and is seen when it moves.
func TestConstantColumns(t *testing.T) {
	for _, value := range []float64{0, 3e-7, 1, -40, 8e12} {
		m := made(40)
		members := m.members(1)
		for _, row := range slices.Concat(members[0].Train, members[0].Test) {
			row[3] = value
		}
		_, calm := highest(judged(t, Config{}, members)[0], func(r *Row) float64 { return r.Score })
		for _, row := range members[0].Test[100:160] {
			row[3] = 20*value + 20*b2f(value == 0)
		}
		at, moved := highest(judged(t, Config{}, members)[0], func(r *Row) float64 { return r.Score })
		if calm >= 1 || moved < 1 || at < 100 {
			t.Errorf("%g: %.2f while it stays, %.2f at row %d when it moves", value, calm, moved, at)
		}
	}
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// TestNothingMeasured: rows and columns without any value are no drift, nor is anything said that is no number.
func TestNothingMeasured(t *testing.T) {
	members := made(50).members(2)
	for _, row := range slices.Concat(members[0].Train, members[0].Test) {
		row[2] = math.NaN()
	}
	for _, row := range members[1].Test[50:90] {
		for k := range row {
			row[k] = math.NaN()
		}
	}
	for i, rows := range judged(t, Config{}, members) {
		for r, row := range rows {
			if row.Alarm || math.IsNaN(row.Score) || math.IsInf(row.Score, 0) {
				t.Fatalf("member %d row %d: %+v", i, r, row)
			}
		}
	}
}

func TestLoadExplains(t *testing.T) {
	for _, role := range []ft.Role{ft.Load, ft.Response} {
		members := made(60).members(1)
		shift(&members[0], 100, 160, 20, 0, 1, 2, 3)
		c := Config{Roles: &Roles{Columns: []Role{{Column: "c1", Role: role}}}}
		rows := judged(t, c, members)[0]
		_, v := highest(rows, func(r *Row) float64 { return r.Score })
		if v < 1 {
			t.Errorf("%s: a doubling scores %.2f", role, v)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	two := made(70).members(2)
	two[1].Columns = []string{"c1", "c2", "x", "c4"}
	wide := Member{Name: "wide", Train: [][]float64{make([]float64, 65)}, Test: [][]float64{make([]float64, 65)}}
	for i := range 65 {
		wide.Columns = append(wide.Columns, fmt.Sprint("c", i+1))
	}
	torn := made(71).members(1)
	torn[0].Test[7] = torn[0].Test[7][:3]
	for want, c := range map[string]struct {
		config  Config
		members []Member
	}{
		`column 3 of m1 is "x", but "c3" in m0 of the same pool`: {Config{}, two},
		"65 dimensions, at most 64":                              {Config{}, []Member{wide}},
		`there is no column "c9": the files have c1, c2, c3, c4`: {Config{Roles: &Roles{Columns: []Role{{Column: "c9"}}}}, two[:1]},
		`column "c2" stands twice`:                               {Config{Roles: &Roles{Columns: []Role{{Column: "2"}, {Column: "c2"}}}}, two[:1]},
		"m0: row 7 has 3 values for 4 columns":                   {Config{}, torn},
		"-1 false alarms":                                        {Config{FalseAlarms: -1}, two[:1]},
		"interval -1s":                                           {Config{Every: -time.Second}, two[:1]},
		"there are no columns to judge": {Config{Roles: &Roles{Columns: []Role{
			{Column: "1", Ignore: true}, {Column: "2", Ignore: true}, {Column: "3", Ignore: true}, {Column: "4", Ignore: true},
		}}}, two[:1]},
	} {
		_, err := Run(t.Context(), c.config, c.members)
		refused(t, err, want)
	}
}

// TestInterrupted: it ends soon, and says so.
func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	rows := 0
	c := Config{Progress: func(n int) {
		if rows += n; rows > 0 {
			stop()
		}
	}}
	if _, err := Run(ctx, c, made(80).members(1)); !errors.Is(err, context.Canceled) || rows > asking {
		t.Errorf("%v after %d rows", err, rows)
	}
	rows = 0
	c.Progress = func(n int) { rows += n }
	members := made(81).members(3)
	judged(t, c, members)
	if rows != 3*600 {
		t.Errorf("told of %d rows", rows)
	}
}
