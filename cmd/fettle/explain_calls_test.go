package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fettle-dev/fettle/api"
)

func TestWhomItCallsIsShown(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out}
	c.printDestinations(false, []api.Destination{
		{Address: "10.0.0.7:6379", Calls: 120, Latency: 0.25, UsualCalls: 118, UsualLatency: 0.0012, Slow: true},
		{Address: "[2001:db8::7]:443", UsualCalls: 3, UsualLatency: 0.04, Waiting: 2, Slow: true},
		{Address: "10.0.0.9:80", Calls: 4, Failures: 0.5, UsualCalls: 4, UsualLatency: 0.02, UsualFailures: 0.01, Latency: 0.02, Failing: true},
		{Address: "other", Calls: 0.5, Latency: 0.01},
	})
	c.printSyscalls(false, []api.SystemCall{{Name: "read", Class: "file", Rate: 3000}, {Name: "futex", Class: "sync", Rate: 1000}})
	want := `
  CALLS TO            RATE  LATENCY  USUAL  FAILURES  USUAL  WAITING
  10.0.0.7:6379      120/s    250ms  1.2ms       0 %    0 %        0  slow
  [2001:db8::7]:443    0/s        -   40ms         -    0 %        2  does not answer
  10.0.0.9:80          4/s     20ms   20ms      50 %    1 %        0  fails
  other              0.5/s     10ms      -       0 %      -        0

  SYSTEM CALL  CLASS    RATE  SHARE
  read         file   3000/s   75 %
  futex        sync   1000/s   25 %
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// One that made no call while they were counted is told from one that nobody asked about.
func TestNoSystemCallIsSaid(t *testing.T) {
	for _, tc := range []struct {
		list       []api.SystemCall
		text, json string
	}{
		{nil, "", ""},
		{[]api.SystemCall{}, "\n  SYSTEM CALL  none within 200ms\n", `"syscalls":[]`},
	} {
		var out bytes.Buffer
		c := &cli{out: &out}
		c.printSyscalls(false, tc.list)
		if diff := cmp.Diff(tc.text, out.String()); diff != "" {
			t.Error(diff)
		}
		b, err := json.Marshal(explanation{Syscalls: tc.list})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), tc.json) || tc.json == "" && strings.Contains(string(b), "syscalls") {
			t.Errorf("%v is %s in JSON", tc.list, b)
		}
	}
}
