package app

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files of the image.
const (
	itemsFile  = "items.jsonl" // one item a line
	configFile = "config.json"
)

// Items is how many items the image holds.
const Items = 4000

// Key is the key of item i.
func Key(i int) string { return fmt.Sprintf("k%04d", i) }

// Word is word i of the texts; searches ask for words.
func Word(i int) string { return words[i%len(words)] }

var words = strings.Fields(`amber anchor basin beacon birch bottle bridge candle canyon cedar cellar chapel cinder
	cobalt copper coral cradle crimson delta dune ember engine falcon fern flint garden glacier granite harbor hazel
	heron hollow indigo island ivory jasper kettle lantern ledger linen lumber maple marble meadow mortar nectar olive
	orchard otter pebble pewter prairie quarry quill raven ribbon river saddle sail silver slate spruce summit thicket
	timber tunnel velvet walnut willow winter`)

type item struct {
	Key     string    `json:"key"`
	Text    string    `json:"text"`
	Numbers []float64 `json:"numbers"`

	sum [sha256.Size]byte // of its line
}

type config struct {
	// Cache is how many rendered items are kept.
	Cache int `json:"cache"`
	// Rounds of hashing are one unit of work, about 100 us on the machine that made the image.
	Rounds int `json:"rounds"`
}

// WriteImage makes the image directory: the same items for the same seed.
func WriteImage(dir string, seed uint64) error {
	f, err := os.Create(filepath.Join(dir, itemsFile))
	if err != nil {
		return fmt.Errorf("demo image: %w", err)
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	rnd := rand.New(rand.NewPCG(seed, 0x6974656d73))
	for i := range Items {
		it := item{Key: Key(i), Numbers: make([]float64, 16)}
		var text strings.Builder
		for text.Len() < 600 {
			text.WriteString(Word(rnd.IntN(len(words))) + " ")
		}
		it.Text = text.String()
		for k := range it.Numbers {
			it.Numbers[k] = rnd.Float64()
		}
		if err := enc.Encode(it); err != nil {
			return fmt.Errorf("demo image: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("demo image: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("demo image: %w", err)
	}
	b, err := json.Marshal(config{Cache: 600, Rounds: calibrate(100 * time.Microsecond)})
	if err != nil {
		return fmt.Errorf("demo image: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), b, 0o644); err != nil {
		return fmt.Errorf("demo image: %w", err)
	}
	return nil
}

// calibrate finds how many rounds of hashing take about the time given, so that the demo is the same load on slow and
// fast machines. The fastest of several tries counts: others were interrupted.
func calibrate(unit time.Duration) int {
	const tries, rounds = 15, 200
	best := time.Hour
	for range tries {
		began := time.Now()
		hash("calibrate", rounds)
		best = min(best, time.Since(began))
	}
	return max(1, int(float64(rounds)*float64(unit)/float64(max(best, 1))))
}

// hash is the CPU work of the application.
func hash(text string, rounds int) [sha256.Size]byte {
	h := sha256.Sum256([]byte(text))
	var block [512]byte
	for range rounds {
		copy(block[:], h[:])
		h = sha256.Sum256(block[:])
	}
	return h
}

// dataset is what was loaded from the data directory; it is never changed.
type dataset struct {
	items []*item
	index map[string]int
	conf  config
}

// load reads the data directory. Items that are as they were in an earlier dataset, which may be nil, are taken from
// there, so that loading again needs no memory for what did not change.
func load(dir string, was *dataset) (*dataset, error) {
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return nil, fmt.Errorf("load configuration: %w", err)
	}
	d := &dataset{items: make([]*item, 0, Items), index: make(map[string]int, Items)}
	if err := json.Unmarshal(b, &d.conf); err != nil {
		return nil, fmt.Errorf("load configuration: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, itemsFile))
	if err != nil {
		return nil, fmt.Errorf("load items: %w", err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); ; {
		if !sc.Scan() {
			if err := sc.Err(); err != nil {
				return nil, fmt.Errorf("load items: %w", err)
			}
			return d, nil
		}
		it, err := was.item(len(d.items), sc.Bytes())
		if err != nil {
			return nil, fmt.Errorf("load items: line %d: %w", len(d.items)+1, err)
		}
		d.index[it.Key] = len(d.items)
		d.items = append(d.items, it)
	}
}

// item is what a line of the file says: the same item as before where item i has not changed.
func (d *dataset) item(i int, line []byte) (*item, error) {
	sum := sha256.Sum256(line)
	if d != nil && i < len(d.items) && d.items[i].sum == sum {
		return d.items[i], nil
	}
	it := &item{sum: sum}
	return it, json.Unmarshal(line, it)
}
