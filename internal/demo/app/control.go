package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// Fault is what a command does to the application.
type Fault string

// The faults.
const (
	Ask      Fault = "ask"       // none: only asks for the State
	Leak     Fault = "leak"      // memory, Rate bytes a second, until the process ends
	SlowLock Fault = "slow-lock" // the store's lock is held for Delay at each request, until the store is made anew
	Spin     Fault = "spin"      // Rate cores are burnt for nothing
	Files    Fault = "files"     // Rate descriptors a second are opened and never closed
	Forget   Fault = "forget"    // nothing is found in the cache, and items cost four times as much
	Hang     Fault = "hang"      // connections are accepted and nothing is answered, until the process ends
	Mend     Fault = "mend"      // takes all faults out, but for requests that already hang
)

// Command is one line from the demo to an instance.
type Command struct {
	Do    Fault         `json:"do"`
	Rate  float64       `json:"rate,omitempty"`
	Delay time.Duration `json:"delay,omitempty"`
}

// State is what an instance says of itself: one line at the start, and one in answer to each command.
type State struct {
	Instance   string         `json:"instance"`
	PID        int            `json:"pid"`
	Posts      map[string]int `json:"posts,omitempty"` // notes counted for each key
	SoftResets int            `json:"soft_resets"`
	Reloads    int            `json:"reloads"`
	Leaked     int64          `json:"leaked"` // bytes
	Slow       time.Duration  `json:"slow"`
	Hung       bool           `json:"hung"`
}

// obey connects to the demo and does what it says; ended is called when the demo is gone.
func obey(socket string, s *server, ended func()) error {
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "unix", socket)
	if err != nil {
		return fmt.Errorf("reach the demo: %w", err)
	}
	say := func() error {
		st := s.state()
		st.Instance, st.PID = os.Getenv("FETTLE_INSTANCE"), os.Getpid()
		return json.NewEncoder(conn).Encode(st)
	}
	if err := say(); err != nil {
		return fmt.Errorf("greet the demo: %w", err)
	}
	go func() {
		defer ended()
		dec := json.NewDecoder(conn)
		for {
			var c Command
			if dec.Decode(&c) != nil {
				return
			}
			s.plant(c)
			if say() != nil {
				return
			}
		}
	}()
	return nil
}
