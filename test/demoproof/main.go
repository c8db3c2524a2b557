// Command demoproof runs `fettle demo` for several seeds and once without faults, and prints what each found: the proof
// that the main job works, not once by luck. Exit code 1 when a run was not as expected.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type result struct {
	Requests  int `json:"requests"`
	Planned   int `json:"lost_planned"`
	Fault     int `json:"lost_fault"`
	Unfaulted int `json:"actions_without_fault"`
	Faults    []struct {
		Name       string   `json:"name"`
		Detected   *float64 `json:"detected_after_s"`
		Verdict    string   `json:"verdict"`
		Actions    []string `json:"actions"`
		Cured      bool     `json:"cured"`
		AsExpected bool     `json:"as_expected"`
	} `json:"faults"`
}

func main() {
	seeds := flag.Int("seeds", 5, "how many seeds, from 1")
	speed := flag.Float64("speed", 1, "passed to the demo")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *seeds, *speed); err != nil {
		fmt.Fprintln(os.Stderr, "demoproof:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seeds int, speed float64) error {
	dir, err := os.MkdirTemp("", "demoproof-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	exe := filepath.Join(dir, "fettle")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", exe, "./cmd/fettle").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	failed := 0
	for seed := 1; seed <= seeds+1; seed++ {
		args := []string{"demo", "-o", "json", "--seed", strconv.Itoa(seed), "--speed", fmt.Sprint(speed)}
		title := "seed " + strconv.Itoa(seed)
		if seed > seeds {
			args, title = append(args, "--faults", "none"), "no faults"
		}
		ok, err := one(ctx, exe, title, args)
		if err != nil {
			return err
		}
		if !ok {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs not as expected", failed, seeds+1)
	}
	fmt.Printf("all %d runs as expected\n", seeds+1)
	return nil
}

func one(ctx context.Context, exe, title string, args []string) (bool, error) {
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, exe, args...)
	c.Stdout, c.Stderr = &out, &errs
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	start := time.Now()
	failure := c.Run()
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return false, fmt.Errorf("%s: %w: %s%s", title, failure, out.Bytes(), errs.Bytes())
	}
	fmt.Printf("%s: %d requests, %d lost to planned actions, %d lost to the fault, %d actions without fault, %.0f s\n",
		title, r.Requests, r.Planned, r.Fault, r.Unfaulted, time.Since(start).Seconds())
	for _, f := range r.Faults {
		delay := "never"
		if f.Detected != nil {
			delay = fmt.Sprintf("%.1f s", *f.Detected)
		}
		verdict := "as expected"
		if !f.AsExpected {
			verdict = "NOT AS EXPECTED"
		}
		fmt.Printf("  %-10s detected after %-8s %s; %s; cured %v; %s\n", f.Name, delay, f.Verdict, strings.Join(f.Actions, ", "), f.Cured, verdict)
	}
	if failure != nil {
		fmt.Printf("  %v: %s\n", failure, strings.TrimSpace(errs.String()))
	}
	return failure == nil, nil
}
