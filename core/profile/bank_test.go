package profile

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

// TestCheckpointRoundTrip: what was learnt comes back, free profiles do not, and views do not overlap.
func TestCheckpointRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := Shape{
			Columns: rapid.IntRange(1, 12).Draw(t, "d"), Categories: rapid.IntRange(0, 5).Draw(t, "c"),
			Sets: rapid.IntRange(0, 2).Draw(t, "sets"),
		}
		shape.Work = rapid.IntRange(0, shape.Columns).Draw(t, "work")
		shape.Unbounded = rapid.IntRange(0, shape.Columns-shape.Work).Draw(t, "u")
		shape.Slow = rapid.IntRange(0, shape.Columns-shape.Work).Draw(t, "slow")
		b, err := NewBank(shape)
		if err != nil {
			t.Fatal(err)
		}
		b.Tails = []stat.Runs{{Threshold: 3, Scale: 1, Rate: 0.2, Prior: 1, Days: 2}}
		for k := range rapid.IntRange(0, 6).Draw(t, "profiles") {
			g, _ := b.GroupOf(uint32(k % 3))
			i := b.Add(ft.Life(100-k), g)
			p := b.At(i)
			fill(t, reflect.ValueOf(p), b.stride, float64(k))
			if k < 3 {
				fill(t, reflect.ValueOf(b.Group(g)), b.gstride, float64(k))
			}
			p.Rows, p.Need, p.Prior, p.Filled[1] = float64(k), 7, k%2 == 0, 3
			if k == 2 {
				b.Free(i)
			}
		}
		data, err := b.AppendBinary(nil, 42)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Decode(data, 42, shape)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			p := b.At(int32(i))
			k := c.Find(p.Life)
			if p.Group < 0 {
				continue
			}
			if k < 0 {
				t.Fatalf("life %d is lost", p.Life)
			}
			q := c.At(k)
			if *p.Head != *q.Head || !slices.Equal(p.Mu, q.Mu) || !slices.Equal(p.Waits, q.Waits) {
				t.Fatalf("life %d: %+v came back as %+v", p.Life, *p.Head, *q.Head)
			}
		}
		if again, _ := c.AppendBinary(nil, 42); string(again) != string(data) {
			t.Fatal("the checkpoint of the copy differs")
		}
		if _, err := Decode(data, 43, shape); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("another schema: %v", err)
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		data[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := Decode(data, 42, shape); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit flipped at %d: %v", at, err)
		}
	})
}

// fill sets all vectors of a view and checks that they have no element in common and leave none out.
func fill(t *rapid.T, view reflect.Value, stride int, from float64) {
	n := 0
	for _, f := range view.Fields() {
		v, ok := reflect.TypeAssert[[]float64](f)
		if !ok {
			continue
		}
		n += len(v)
		for c := range v {
			if v[c] != 0 {
				t.Fatal("views overlap")
			}
			v[c] = from + float64(n+c+1)
		}
	}
	if n != stride {
		t.Fatalf("the views cover %d of %d numbers", n, stride)
	}
}

// FuzzDecode: no input makes it panic or allocate far beyond its size.
func FuzzDecode(f *testing.F) {
	shape := Shape{Columns: 5, Work: 2, Categories: 3, Unbounded: 1, Sets: 2, Slow: 1}
	b, err := NewBank(shape)
	if err != nil {
		f.Fatal(err)
	}
	g, _ := b.GroupOf(9)
	b.Add(1, g)
	data, err := b.AppendBinary(nil, 7)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data, 7, shape)
		if err != nil {
			return
		}
		if c.Len()*c.StateBytes() > 100*len(data)+1000 {
			t.Fatalf("%d profiles from %d bytes", c.Len(), len(data))
		}
		for i := range c.Len() {
			for _, v := range c.At(int32(i)).Mu {
				if math.IsNaN(v) {
					t.Fatal("a location is no number")
				}
			}
		}
	})
}

// TestShapes out of range are refused.
func TestShapes(t *testing.T) {
	for _, s := range []Shape{{Columns: -1}, {Columns: 65}, {Columns: 3, Work: 4}, {Columns: 3, Unbounded: 4}, {Categories: 1e6}, {Sets: 9}, {Columns: 3, Work: 2, Slow: 2}} {
		if _, err := NewBank(s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

// TestGroupsAreBounded: the group not seen for longest makes room.
func TestGroupsAreBounded(t *testing.T) {
	b, err := NewBank(Shape{Columns: 2, Work: 1})
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint32(MaxGroups + 10) {
		g, fresh := b.GroupOf(id)
		if !fresh {
			t.Fatalf("group %d is not new", id)
		}
		b.Group(g).Last = uint64(id) + 1
	}
	if b.Groups() != MaxGroups {
		t.Errorf("%d groups, want %d", b.Groups(), MaxGroups)
	}
	if _, fresh := b.GroupOf(MaxGroups + 9); fresh {
		t.Error("the newest group is gone")
	}
	if _, fresh := b.GroupOf(3); !fresh {
		t.Error("an old group is still there")
	}
}
