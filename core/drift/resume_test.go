package drift

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

// chaos disturbs a frame as hard days do: missing values, lives that come, go and change slots, actions, gaps.
type chaos struct {
	rnd  *rand.Rand
	skip time.Duration
}

func (x *chaos) disturb(w *world, f *ft.Frame) {
	odds := func(one int) bool { return x.rnd.IntN(one) == 0 }
	for c := range f.X {
		switch {
		case odds(50):
			f.X[c] = math.NaN()
		case odds(3000):
			f.X[c] = []float64{math.Inf(1), -1, 1e300, 0, 1e9}[x.rnd.IntN(5)]
		}
	}
	for i := range f.Rows {
		row := &f.Rows[i]
		row.Serving, row.Held = !odds(30), odds(20)
		row.Settings = uint32(w.t / 300)
		if i%2 == 1 {
			row.Group = 2
		}
		if odds(200) {
			w.reborn(i)
		}
		if odds(100) {
			f.Have[i] = ft.Dims(x.rnd.Uint64()) | 7
		}
	}
	if n := len(f.Rows); n > 1 && odds(40) {
		a, b := x.rnd.IntN(n), x.rnd.IntN(n)
		f.Rows[a].Slot, f.Rows[b].Slot = f.Rows[b].Slot, f.Rows[a].Slot
	}
	if odds(300) {
		x.skip += time.Duration(x.rnd.IntN(40)-5) * time.Second
	}
	f.At = f.At.Add(x.skip)
	if odds(100) {
		f.Rows = f.Rows[:x.rnd.IntN(len(f.Rows)+1)]
	}
}

// TestResume: a judge that is restored from a checkpoint gives the same verdicts and checkpoints, bit for bit, as the one
// that went on, whatever happens to the pool before and after.
func TestResume(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		n := rapid.IntRange(1, 5).Draw(t, "n")
		w := newRich(n, seed)
		if rapid.Bool().Draw(t, "base") {
			w.base()
		}
		for range rapid.IntRange(0, 3).Draw(t, "faults") {
			w.faults = append(w.faults, fault{
				at: rapid.IntRange(100, 400).Draw(t, "at"), victim: rapid.IntRange(-1, n-1).Draw(t, "victim"),
				leak: 3 * mebi, call: 0.1, missing: 0.3,
			})
		}
		x := &chaos{rnd: rand.New(rand.NewPCG(seed, 5))}
		config := Config{MemoryLimit: 512 * mebi, Learn: 40 * time.Second}
		if rapid.Bool().Draw(t, "coarse") { // then frames are rows of the streams
			config.Interval, config.Learn = time.Minute, 40*time.Minute
		}
		begin := func() *Judge {
			j, err := New(w.schema, config)
			if err != nil {
				t.Fatal(err)
			}
			if j.coarse {
				j.longLearn, j.longAnchor = 100, 300
			}
			return j
		}
		went := begin()
		step := func(js ...*Judge) {
			f := w.next()
			x.disturb(w, f)
			var first []ft.Verdict
			for k, j := range js {
				vs := j.Observe(nil, f)
				if k == 0 {
					first = vs
				} else if !slices.EqualFunc(first, vs, same) {
					t.Fatalf("row %d: verdicts differ:\n%+v\n%+v", w.t, first, vs)
				}
			}
			command(x.rnd, js)
		}
		for range rapid.IntRange(0, 500).Draw(t, "before") {
			step(went)
		}
		saved := checkpoint(t, went)
		restored := begin()
		if err := restored.UnmarshalBinary(saved); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(saved, checkpoint(t, restored)) {
			t.Fatal("the checkpoint of a restored judge is another")
		}
		for range rapid.IntRange(1, 300).Draw(t, "after") {
			step(went, restored)
		}
		if !slices.Equal(checkpoint(t, went), checkpoint(t, restored)) {
			t.Fatal("checkpoints differ")
		}
		for s := range ft.Slot(n) {
			if went.FirstVerdict(s) != restored.FirstVerdict(s) || !same(went.Verdict(s), restored.Verdict(s)) {
				t.Fatalf("slot %d: %+v and %+v", s, went.Verdict(s), restored.Verdict(s))
			}
		}
	})
}

// same compares bits, since evidence may hold what is no number.
func same(a, b ft.Verdict) bool {
	return *(*[unsafe.Sizeof(a)]byte)(unsafe.Pointer(&a)) == *(*[unsafe.Sizeof(b)]byte)(unsafe.Pointer(&b)) || reflect.DeepEqual(a, b)
}

// command gives all judges the same command now and then.
func command(rnd *rand.Rand, js []*Judge) {
	do, s := rnd.IntN(800), ft.Slot(rnd.IntN(5))
	for _, j := range js {
		switch do {
		case 0:
			j.Accept(s)
		case 1:
			j.Forget(s)
		case 2:
			j.AcceptAll()
		case 3:
			j.ForgetAll()
		}
	}
}

func checkpoint(t interface{ Fatal(a ...any) }, j *Judge) []byte {
	b, err := j.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTrackIsKept: no field of a verdict's state is left out of a checkpoint.
func TestTrackIsKept(t *testing.T) {
	var a, b track
	rnd := rand.New(rand.NewPCG(8, 9))
	scatter(reflect.ValueOf(&a).Elem(), rnd)
	out := coder{}
	a.code(&out)
	in := coder{buf: out.buf, reads: true}
	b.code(&in)
	if a != b || in.bad || len(in.buf) > 0 {
		t.Errorf("%+v\ncame back as\n%+v", a, b)
	}
	var p, q judgeState
	scatter(reflect.ValueOf(&p).Elem(), rnd)
	out = coder{}
	p.code(&out)
	in = coder{buf: out.buf, reads: true}
	if q.code(&in); p != q || in.bad || len(in.buf) > 0 {
		t.Errorf("%+v\ncame back as\n%+v", p, q)
	}
}

// scatter sets every field of a value without pointers to something of its own.
func scatter(v reflect.Value, rnd *rand.Rand) {
	v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			scatter(f, rnd)
		}
	case reflect.Array:
		for i := range v.Len() {
			scatter(v.Index(i), rnd)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(1 + rnd.IntN(1000)))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(1 + rnd.IntN(1000)))
	default:
		v.SetUint(uint64(1 + rnd.IntN(2))) // enumerations too
	}
}
