package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/metric"
	"github.com/fettle-dev/fettle/bench/internal/truth"
	"github.com/fettle-dev/fettle/internal/score"
)

// complete tells what of the data is missing.
func complete(data string, chosen []part) error {
	if data == "" {
		return errors.New("FETTLE_DATA is not set: it names the folder with the labelled telemetry, which has folders smd, asd, jumpstarter and nezha-ob")
	}
	var missing []string
	for _, p := range chosen {
		path := filepath.Join(data, p.folder)
		if s, err := os.Stat(path); err != nil || !s.IsDir() {
			missing = append(missing, path)
		}
	}
	if missing != nil {
		return fmt.Errorf("FETTLE_DATA is incomplete: there is no folder %s", strings.Join(missing, ", "))
	}
	return nil
}

// machine is a member with its labels.
type machine struct {
	score.Member
	labels []bool
	pool   string // "" if it is in none
	buffer int    // of VUS-PR
}

// load reads the machines of a folder, by name.
func load(dir string) ([]machine, error) {
	members, err := score.Load(dir)
	if err != nil {
		return nil, err
	}
	pools := map[string]string{}
	path := filepath.Join(dir, score.PoolsFile)
	if _, err := os.Stat(path); err == nil {
		if pools, err = score.Pools(path); err != nil {
			return nil, err
		}
	}
	out := make([]machine, len(members))
	for i, m := range members {
		out[i] = machine{Member: m, pool: pools[m.Name], buffer: metric.Buffer(column(m.Test, 0))}
		if out[i].labels, err = truth.Of(dir, &m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func column(rows [][]float64, c int) []float64 {
	out := make([]float64, len(rows))
	for i, row := range rows {
		out[i] = row[c]
	}
	return out
}

// pooled are the machines by pool, in the order of their names; those without are by themselves.
func pooled(machines []machine) [][]*machine {
	var out [][]*machine
	at := map[string]int{}
	for i := range machines {
		m := &machines[i]
		k, known := at[m.pool]
		if !known || m.pool == "" {
			k = len(out)
			out = append(out, nil)
			at[m.pool] = k
		}
		out[k] = append(out[k], m)
	}
	return out
}
