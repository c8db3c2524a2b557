package drift

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// FuzzRestore: whatever a checkpoint says, restoring it does not panic, and a judge that took it judges on without
// panic and in finite numbers.
func FuzzRestore(f *testing.F) {
	w := newWorld(2, 400)
	j := newJudge(f, w, Config{})
	f.Add([]byte{}, uint64(0))
	whole, err := j.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint64(0))
	watch(f, w, j, 60)
	if whole, err = j.AppendBinary(nil); err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint64(300))
	f.Fuzz(func(t *testing.T, b []byte, poke uint64) {
		if len(b) > 4 { // an attacker can write a checksum too
			b = append([]byte(nil), b...)
			if body := b[:len(b)-4]; len(body) > 8 && poke > 0 {
				o := int(poke % uint64(len(body)-8))
				binary.LittleEndian.PutUint64(body[o:], poke*0x9e3779b97f4a7c15)
			}
			if n := len(b); n > checkpointHead { // of the bank too
				m := int(binary.LittleEndian.Uint32(b[checkpointHead-4:]))
				if m > 4 && m < n-checkpointHead {
					bank := b[checkpointHead : checkpointHead+m]
					binary.LittleEndian.PutUint32(bank[m-4:], crc32.Checksum(bank[:m-4], crc32.MakeTable(crc32.Castagnoli)))
				}
			}
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)))
		}
		w := newWorld(2, 401)
		k := newJudge(t, w, Config{MemoryLimit: 1e9})
		if err := k.UnmarshalBinary(b); err != nil {
			return
		}
		watch(t, w, k, 12)
		for s := range ft.Slot(2) {
			finite(t, k.Verdict(s))
		}
	})
}

func finite(t *testing.T, v ft.Verdict) {
	t.Helper()
	for _, x := range []float32{v.Score, v.SelfLoad, v.SelfResp, v.PeersLoad, v.PeersResp, v.Categories, v.Shared, v.Progress} {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			t.Fatalf("verdict is not finite: %+v", v)
		}
	}
}

// FuzzObserve: frames with any values, slots, lives, gaps and flags are judged without panic and in finite numbers.
func FuzzObserve(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	extremes := []float64{0, math.NaN(), math.Inf(1), math.Inf(-1), -1, 1, 1e300, -1e300, 1e-300, 0.5, 100, 1e9}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(3, 402)
		j := newJudge(t, w, Config{Learn: 30 * time.Second, MemoryLimit: 1e9})
		watch(t, w, j, 60)
		var buf []ft.Verdict
		for len(b) > 6 && w.t < 200 {
			fr := w.next()
			n := w.schema.Len()
			fr.X[int(b[0])%len(fr.X)] = extremes[int(b[1])%len(extremes)]
			row := &fr.Rows[int(b[2])%len(fr.Rows)]
			for c := range n {
				if b[3]&1 != 0 {
					fr.X[(int(b[2])%3)*n+c] = extremes[(int(b[1])+c)%len(extremes)]
				}
			}
			row.Serving, row.Held = b[3]&2 == 0, b[3]&4 != 0
			if b[3]&8 != 0 {
				row.Slot, row.Life = ft.Slot(b[4])<<uint(b[5]%24), ft.Life(b[5])
			}
			if b[3]&16 != 0 {
				row.Settings, row.Group = uint32(b[4]), uint32(b[5])
			}
			if b[3]&32 != 0 {
				fr.At = fr.At.Add(time.Duration(int8(b[4])) * time.Minute)
			}
			if b[3]&64 != 0 {
				fr.Counts[int(b[4])%len(fr.Counts)] = math.MaxUint32
			}
			b = b[6:]
			buf = j.Observe(buf[:0], fr)
			for k := range buf {
				finite(t, buf[k])
				Explain(w.schema, nil, "x", &buf[k])
			}
		}
		cp, err := j.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := newJudge(t, w, Config{}).UnmarshalBinary(cp); err != nil {
			t.Fatalf("its own checkpoint: %v", err)
		}
	})
}

// TestObserveAllocatesNothing in steady state.
func TestObserveAllocatesNothing(t *testing.T) {
	s := wide(t, 32, 32)
	fs := frames(s, 16, 8)
	j, err := New(s, Config{})
	if err != nil {
		t.Fatal(err)
	}
	at, k := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0
	var out []ft.Verdict
	step := func() {
		fr := &fs[k%len(fs)]
		at, k = at.Add(time.Second), k+1
		fr.At = at
		out = j.Observe(out[:0], fr)
	}
	for range 300 {
		step()
	}
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("%g allocations a frame", n)
	}
	if b := j.bank.StateBytes(); b > 16<<10 {
		t.Errorf("%d bytes of state an instance, at most 16 KiB", b)
	}
}
