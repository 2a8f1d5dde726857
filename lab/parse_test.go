package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
)

const head = `question: Why?
paper: Raft
topic: Tests

Because.

setup
  hosts 3

`

var swarmHead = strings.Replace(head, "hosts 3", "swarm core", 1)

// "Errors in a file are reported with line and column."
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no step", head + "steps\n  jump 1\n\narm as shipped\n  no violation\n", "x.txt:11:3: no step is called \"jump\""},
		{"no replica", head + "steps\n  crash 1 4\n", "x.txt:11:11: a replica's number is 4, it may be 1 to 3"},
		{"no link", head + "steps\n  cut 1-2 1+3\n", "x.txt:11:11: expected links as in 1-2 or 1->2"},
		{"link of one", head + "steps\n  cut 2-2\n", "x.txt:11:7: there is no link from 2 to itself"},
		{"no letter", head + "steps\n  hold post from 1\n", "x.txt:11:8: no message is called \"post\""},
		{"left over", head + "steps\n  stand 1 now\n", "x.txt:11:11: did not expect \"now\" here"},
		{"no end", head + "steps\n  stand\n", "x.txt:11:8: expected a replica's number"},
		{"no bound", head + "steps\n  for 3\n", "x.txt:11:8: expected \"timeouts\""},
		{"twice", head + "steps\n  partition {1 2} | {2 3}\n", "x.txt:11:22: replica 2 stands twice"},
		{"no client", head + "steps\n  until ann done\n", "x.txt:11:9: \"ann\" is neither a condition nor a client"},
		{"no protection", head + "arm as shipped\n  no violation\narm without luck\n", "x.txt:12:13: no protection is called \"luck\""},
		{"no class", head + "arm as shipped\n  violation of-rules\n", "x.txt:11:13: no class of violations"},
		{"no arm", head + "steps\n  without pre-vote: heal\narm as shipped\n  no violation\n", "x.txt:11:1: there is no arm without pre-vote"},
		{"second arm", head + "arm as shipped\n  no violation\narm as shipped\n", "x.txt:12:1: a second arm"},
		{"expects nothing", head + "arm as shipped\n", "x.txt:10:1: the arm as shipped expects nothing"},
		{"no comparison", head + "arm as shipped\n  term 1 near 3\n", "x.txt:11:10: \"near\" is no comparison"},
		{"logs of hosts", strings.Replace(head, "  hosts 3\n", "  hosts 3\n  log 1 = 1\n", 1), "x.txt:9:7: logs can be given to cores alone"},
		{"no entries", strings.Replace(head, "  hosts 3\n", "  hosts 3\n  compact after 3 apples\n", 1), "x.txt:9:19: expected \"bytes\""},
		{"odd blocks", strings.Replace(head, "  hosts 3\n", "  hosts 3\n  blocks of 500 bytes\n", 1), "x.txt:9:10: blocks are of a multiple of 512"},
		{"tail of cores", strings.Replace(head, "  hosts 3\n", "  cores 3\n  tail 3 entries\n", 1), "x.txt:9:3: snapshots are for hosts alone"},
		{"compaction of cores", strings.Replace(head, "hosts", "cores", 1) + "steps\n  compact 1\n", "x.txt:11:3: compaction is for hosts alone"},
		{"transfer to itself", head + "steps\n  transfer 1 to 1\n", "x.txt:11:17: 1 cannot hand over to itself"},
		{"damage of cores", strings.Replace(head, "hosts", "cores", 1) + "steps\n  damage entry 1 at 1\n", "x.txt:11:3: damage is for hosts alone"},
		{"full cores", strings.Replace(head, "hosts", "cores", 1) + "steps\n  fill disk 1\n", "x.txt:11:3: room on a disk is for hosts alone"},
		{"no operation", head + "steps\n  crash 1 at image shred\n", "x.txt:11:20: expected an operation as in"},
		{"two fuses", head + "steps\n  crash 1 2 at log sync\n", "x.txt:11:3: one host crashes at an operation"},
		{"no place", head + "steps\n  expect entry 3 at 1 gone\n", "x.txt:11:23: expected \"there\""},
		{"no block", head + "steps\n  drop snapshot-block with block x\n", "x.txt:11:34: \"x\" is not the number of a block"},
		{"no hosts", "question: Why?\npaper: Raft\ntopic: T\n\nSo.\n\nsteps\n  crash 1\n", "x.txt:8:9: the set-up must say"},
		{"no entries to strip", head + "steps\n  strip vote from 1\n", "x.txt:11:9: expected append"},
		{"empty", "", "x.txt:1:1: the head must have"},
		{"far too long", strings.Repeat("#", 1<<17), "x.txt:1:1: the file is longer than the 65536 bytes"},
		{"a protection twice", head + "arm as shipped\n  no violation\narm without sync, sync\n", "x.txt:12:19: \"sync\" stands twice"},
		{"second setup", head + "steps\n  elect 3\n\nsetup\n  hosts 1\n", "x.txt:13:1: there is one setup, and it stands before"},
		{"late setup", strings.Replace(head, "setup\n", "expect\n  no violation\n\nsetup\n", 1), "x.txt:10:1: there is one setup, and it stands before"},
		{"fewer hosts", strings.Replace(head, "  hosts 3\n", "  hosts 5\n  hosts 3\n", 1), "x.txt:9:3: a scenario has hosts, cores or a swarm"},
		{"fewer cores", strings.Replace(head, "  hosts 3\n", "  cores 5\n  log 5 = 1 1\n  cores 3\n", 1), "x.txt:10:3: a scenario has hosts, cores or a swarm"},
		{"logs of a swarm", swarmHead + "steps\n  swarm\narm as shipped\n  logs equal\n", "x.txt:13:3: \"logs\" cannot be observed of a swarm"},
		{"states of a swarm", swarmHead + "steps\n  swarm\nexpect\n  states equal\n", "x.txt:13:3: \"states\" cannot be observed of a swarm"},
		{"leader of a swarm", swarmHead + "steps\n  swarm\nexpect\n  not no leader\n", "x.txt:13:7: \"no\" cannot be observed of a swarm"},
		{"syncs of a swarm", swarmHead + "steps\n  swarm\narm as shipped\n  syncs >= 1\n", "x.txt:13:3: \"syncs\" cannot be observed of a swarm"},
		{"held of a swarm", swarmHead + "steps\n  swarm\narm as shipped\n  held = 0\n", "x.txt:13:3: \"held\" cannot be observed of a swarm"},
		{"timeouts of a swarm", swarmHead + "steps\n  swarm\narm as shipped\n  elapsed < 3 timeouts\n", "x.txt:13:13: a swarm draws its election timeout"},
		{"faults of hosts", head + "arm as shipped\n  swarm-faults >= 1\n", "x.txt:11:3: \"swarm-faults\" is of a swarm alone"},
		{"no mark", swarmHead + "steps\n  swarm\nexpect\n  mark earthquake >= 1\n", "x.txt:13:8: no mark is called \"earthquake\""},
		{"mark of hosts", head + "arm as shipped\n  mark crash >= 1\n", "x.txt:11:3: \"mark\" is of a swarm alone"},
		{"every fault of hosts", strings.Replace(head, "  hosts 3\n", "  hosts 3\n  every fault\n", 1), "x.txt:9:3: every fault is for a swarm"},
		{"no swarm", swarmHead + "arm as shipped\n  no violation\n", "x.txt:10:1: the arm as shipped has the step swarm 0 times"},
		{"two swarms", swarmHead + "steps\n  swarm\n  swarm\narm as shipped\n  no violation\n", "x.txt:13:1: the arm as shipped has the step swarm 2 times"},
		{"no swarm for an arm", swarmHead + "steps\n  as shipped: swarm\narm as shipped\n  no violation\narm without sync\n  no violation\n", "x.txt:14:1: the arm without sync has the step swarm 0 times"},
		{"too long", head + "steps\n  for 9000h\n", "x.txt:11:7: 9000h0m0s is more than 10000 election timeouts"},
		{"too long within", head + "steps\n  until a leader within 17m\n", "x.txt:11:25: 17m0s is more than 10000 election timeouts"},
		{"no timeout", strings.Replace(head, "  hosts 3\n", "  hosts 3\n  timeout 1ns\n", 1), "x.txt:9:3: an election timeout is at least 1ms"},
		{"too much", head + "steps\n  write 1000 commands of 1048576 bytes at 1 by ann\n", "x.txt:11:23: a batch has at most 16777216 bytes"},
	} {
		_, err := Parse("x", c.text)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s…", c.name, err, c.want)
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %T does not say where it is", c.name, err)
		}
	}
}

// A script that cannot be satisfied is not observed, and says which line.
func TestNotObserved(t *testing.T) {
	s, err := Parse("x", head+"steps\n  elect 1\n  expect leader 2\n\narm as shipped\n  commit 1 >= 5\n")
	if err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), s, &s.Arms[0])
	if err != nil {
		t.Fatal(err)
	}
	if res.Observed || len(res.Missing) != 2 || !strings.HasPrefix(res.Missing[0], "line 12") || !strings.HasPrefix(res.Missing[1], "line 15") {
		t.Errorf("observed %v, missing %q", res.Observed, res.Missing)
	}
}

// A violation that the arm does not expect is never taken for success.
func TestUnexpectedViolation(t *testing.T) {
	s, err := Load("stale-read")
	if err != nil {
		t.Fatal(err)
	}
	arm := Arm{Without: []string{"read-quorum"}}
	res, err := Run(t.Context(), s, &arm)
	if err != nil {
		t.Fatal(err)
	}
	if res.Observed || res.Violation == nil {
		t.Errorf("observed %v, violation %v", res.Observed, res.Violation)
	}
}

// "If ctx ends first, the error wraps its cause": a run does not outlast it.
func TestRunEndsWithItsContext(t *testing.T) {
	for _, steps := range []string{"  for 10000 timeouts\n", "  until leader 2 within 10000 timeouts\n", "  cut 1-2 1-3 2-3\n  elect 1 within 10000 timeouts\n", "  rounds over 10000 seeds\n"} {
		s, err := Parse("x", head+"steps\n"+steps+"\narm as shipped\n  no violation\n")
		if err != nil {
			t.Fatal(err)
		}
		ctx := &budget{Context: t.Context(), left: 2000}
		if res, err := Run(ctx, s, &s.Arms[0]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s%v, %v; want the context's error", steps, res, err)
		}
		if ctx.asked > 2*2000 {
			t.Errorf("%sthe run went on and asked %d times whether it may", steps, ctx.asked)
		}
	}
}

// budget is a context that ends once it was asked so often whether it has: a run
// asks before every occurrence.
type budget struct {
	context.Context
	left, asked int
}

func (b *budget) Err() error {
	if b.asked++; b.asked > b.left {
		return context.DeadlineExceeded
	}
	return nil
}

// FuzzParse also runs what can be parsed, for a while.
func FuzzParse(f *testing.F) {
	for _, n := range Names() {
		b, err := files.ReadFile("scenarios/" + n + ".txt")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("fuzz", text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Column < 1 {
				t.Errorf("%v has no place", err)
			}
			return
		}
		if len(s.Arms) == 0 || len(s.Arms[0].Without) != 0 {
			t.Fatal("the first arm is not the one as shipped")
		}
		for i := range s.Arms {
			_, _ = Run(&budget{Context: t.Context(), left: 3000}, s, &s.Arms[i]) // must not panic
		}
	})
}
