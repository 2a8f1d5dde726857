package main

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/quorate/quorate/bench/internal/report"
)

const traces = `File: bench
Type: cpu
Duration: 5.13s, Total samples = 1.43s (27.85%)
-----------+-------------------------------------------------------
     300ms   internal/runtime/syscall/linux.Syscall6
             syscall.Pwrite (inline)
             internal/poll.(*FD).Pwrite
             github.com/quorate/quorate/wal.(*Log).writeAt
             github.com/quorate/quorate/host.(*Syncer).Turn
-----------+-------------------------------------------------------
     0.50s   runtime.memmove
             github.com/quorate/quorate/smr.AppendEntry
             github.com/quorate/quorate/wal.(*Log).Append
             github.com/quorate/quorate/host.(*Shard).Turn
-----------+-------------------------------------------------------
     100ms   runtime.memclrNoHeapPointers
             runtime.mallocgc
             github.com/quorate/quorate/raft.(*Raft).Take
-----------+-------------------------------------------------------
      50ms   runtime.chansend
             github.com/quorate/quorate/host.(*waiter).complete
-----------+-------------------------------------------------------
      50ms   some/where.else
`

func TestPartsOfProfile(t *testing.T) {
	got, err := partsOf(strings.NewReader(traces))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"disk: write": 0.3, "log: encoding and bookkeeping": 0.5, "allocation and garbage collection": 0.1,
		"waking and scheduling": 0.05, "other": 0.05,
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, part := range want {
		if math.Abs(got[name]-part) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got[name], part)
		}
	}
	for _, bad := range []string{"", "-----------+---\n", "no profile\n"} {
		if _, err := partsOf(strings.NewReader(bad)); !errors.Is(err, errProfile) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	s := &spending{System: "quorate", Loads: []spentUnder{{InFlight: 1, CPUS: 2, Parts: map[string]float64{"other": 1}}, {InFlight: 256, CPUS: 0.5, Parts: got}}}
	var b strings.Builder
	if err := report.Markdown(&b, s.tables()); err != nil {
		t.Fatal(err)
	}
	if want := "| log: encoding and bookkeeping | 0 % | 50 % |\n| disk: write | 0 % | 30 % |"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in:\n%s", want, b.String())
	}
}

func FuzzPartsOfProfile(f *testing.F) {
	f.Add(traces)
	f.Add("-----------+\n 1ns x\n")
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := partsOf(strings.NewReader(text))
		if err != nil {
			return
		}
		sum := 0.0
		for _, p := range parts {
			if p < 0 {
				return // a profile of a difference
			}
			sum += p
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("the parts are %v together: %v", sum, parts)
		}
	})
}
