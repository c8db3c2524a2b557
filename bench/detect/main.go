package main

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fettle-dev/fettle/bench/internal/metric"
	"github.com/fettle-dev/fettle/bench/internal/yardstick"
	"github.com/fettle-dev/fettle/internal/score"
)

func main() {
	for _, set := range []string{"smd", "asd", "jumpstarter"} {
		dir := filepath.Join(os.Getenv("FETTLE_DATA"), set)
		ms, err := score.Load(dir)
		if err != nil {
			panic(err)
		}
		sum := map[string]float64{}
		for _, m := range ms {
			f, _ := os.Open(filepath.Join(dir, m.Name+"_label.csv.gz"))
			z, _ := gzip.NewReader(f)
			var l []bool
			for s := bufio.NewScanner(z); s.Scan(); {
				l = append(l, strings.HasPrefix(strings.TrimSpace(s.Text()), "1"))
			}
			col := make([]float64, len(m.Test))
			for i := range col {
				col[i] = m.Test[i][0]
			}
			w := metric.Buffer(col)
			for _, y := range yardstick.Methods() {
				mod, err := y.Fit(m.Train)
				if err != nil {
					panic(err)
				}
				s := make([]float64, len(m.Test))
				for i := range s {
					s[i] = mod.Score(m.Test[i])
				}
				sum[y.Name+" old"] += metric.VUSPR(s, l, w) / float64(len(ms))
				sum[y.Name+" new"] += metric.VUSPR2(s, l, w, 250) / float64(len(ms))
				sum[y.Name+" ap"] += metric.AveragePrecision(s, l) / float64(len(ms))
			}
			sum["W"] += float64(w) / float64(len(ms))
		}
		fmt.Println(set, sum)
	}
}
