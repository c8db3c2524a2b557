package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/durable"
	"github.com/fettle-dev/fettle/internal/procfs"
)

// memory is which name each server has or had.
type memory struct {
	Serial uint32  `json:"serial"` // the highest given
	Names  []named `json:"names"`  // in the order of their giving
}

// named is a name and the last server that has or had it.
type named struct {
	ft.Ref
	Place string `json:"place"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// mostNames bounds the names that are remembered: those that were given first go first.
const mostNames = 4 * ft.MostWatched

// memoryPath is the file of a pool.
func memoryPath(stateDir string, pool ft.PoolName) string {
	return filepath.Join(stateDir, "watch-"+string(pool)+".json")
}

func recall(path string) (memory, error) {
	var m memory
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return memory{}, fmt.Errorf("recall names: %w", err)
	}
	return m, nil
}

// save replaces the file durably: a name that is forgotten might be given to another server.
func (m *memory) save(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("remember names: %w", err)
	}
	if err := durable.Replace(path, b); err != nil {
		return fmt.Errorf("remember names: %w", err)
	}
	return nil
}

// name gives the server, whose name n lacks, the name that it had; else, with the next generation, that of one that ended
// in its place; else a new one. It tells whether it gave one.
func (m *memory) name(pool ft.PoolName, n named, taken func(ft.InstanceID) bool) (ft.Ref, bool) {
	for i := range m.Names {
		if o := &m.Names[i]; o.PID == n.PID && o.Start == n.Start && o.Boot == n.Boot {
			return o.Ref, false
		}
	}
	for i := range m.Names {
		if o := &m.Names[i]; o.Place == n.Place && !taken(o.ID) && !o.lives(n.Boot) {
			o.Generation++
			o.PID, o.Start, o.Boot = n.PID, n.Start, n.Boot
			return o.Ref, true
		}
	}
	m.Serial++
	n.Ref = ft.Ref{ID: ft.NewInstanceID(pool, m.Serial), Generation: 1}
	m.Names = append(m.Names, n)
	if len(m.Names) > mostNames {
		i := slices.IndexFunc(m.Names, func(n named) bool { return !taken(n.ID) })
		m.Names = slices.Delete(m.Names, i, i+1)
	}
	return n.Ref, true
}

// moved notes that the server of a name stands in another place than it was found in.
func (m *memory) moved(ref ft.Ref, place string) {
	for i := range m.Names {
		if m.Names[i].Ref == ref {
			m.Names[i].Place = place
		}
	}
}

// lives tells whether the server of the name still runs.
func (n *named) lives(boot string) bool {
	s, err := procfs.ReadStat(n.PID)
	return n.Boot == boot && err == nil && s.Start == n.Start && !s.Dead()
}
