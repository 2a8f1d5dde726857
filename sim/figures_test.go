package sim

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// figures are what a protection is there for that breaks nothing by its absence.
type figures struct {
	messages, syncs, rejections uint64
	took                        time.Duration
}

// counter counts messages and rejections.
type counter struct{ messages, rejections uint64 }

// Trace implements Tracer.
func (c *counter) Trace(e *Event) {
	if e.Kind != EventSend {
		return
	}
	c.messages++
	if e.Message.Type == raft.MsgAppendReply && e.Message.Reject {
		c.rejections++
	}
}

func (c *counter) since(d *directed, began smr.Instant, messages, rejections, syncs uint64) figures {
	return figures{c.messages - messages, d.Syncs() - syncs, c.rejections - rejections, d.Now().Sub(began)}
}

// Sixty-four commands in four waves, a millisecond apart; a message takes 5 ms, a
// sync 2 ms.
func wave(t *testing.T, without ...string) figures {
	c := &counter{}
	d := direct(t, ScriptOptions{Mode: Core, Tracer: c, Without: without})
	d.lead(1)
	began, m, r, s := d.Now(), c.messages, c.rejections, d.Syncs()
	var calls []*Call
	for range 4 {
		calls = append(calls, d.Write("ann", 1, 0, 16))
		d.pass(0.01)
	}
	for _, call := range calls {
		d.done("write", call)
	}
	f := c.since(d, began, m, r, s)
	d.finish()
	return f
}

// A follower with sixty entries of three terms that the leader does not have.
func repair(t *testing.T, without ...string) figures {
	c := &counter{}
	theirs := []uint64{1}
	for i := range 60 {
		theirs = append(theirs, uint64(2+i/20))
	}
	d := direct(t, ScriptOptions{Mode: Core, Tracer: c, Without: without, Logs: map[smr.ReplicaID][]uint64{
		1: append([]uint64{1}, termsOfLength(70, 5)...), 2: theirs, 3: append([]uint64{1}, termsOfLength(70, 5)...),
	}})
	began, m, r, s := d.Now(), c.messages, c.rejections, d.Syncs()
	if err := d.Stand(1); err != nil {
		t.Fatal(err)
	}
	d.to("repair", func() bool { return d.view(2).Commit == 72 })
	f := c.since(d, began, m, r, s)
	d.finish()
	return f
}

func termsOfLength(n int, term uint64) (terms []uint64) {
	for range n {
		terms = append(terms, term)
	}
	return terms
}

// Thesis §10.2: what batches, pipelines and the leader's parallel write are for;
// Raft §5.3: with the hint "one AppendEntries RPC will be required for each term
// with conflicting entries, rather than one RPC per entry".
func TestFiguresSideBySide(t *testing.T) {
	shipped := wave(t)
	rows := map[string]figures{"as shipped": shipped}
	for _, c := range []struct {
		without string
		worse   func(f figures) bool
	}{
		{"batching", func(f figures) bool { return f.messages > 5*shipped.messages }},
		{"pipelining", func(f figures) bool { return f.took >= shipped.took+3*time.Millisecond }},
		{"parallel-write", func(f figures) bool { return f.took >= shipped.took+time.Millisecond }},
	} {
		f := wave(t, c.without)
		rows["without "+c.without] = f
		if !c.worse(f) {
			t.Errorf("without %s: %+v, as shipped %+v", c.without, f, shipped)
		}
	}
	hint, none := repair(t), repair(t, "conflict-hint")
	rows["repair as shipped"], rows["repair without conflict-hint"] = hint, none
	if hint.rejections > 4 || none.rejections < 50 || none.took < 5*hint.took {
		t.Errorf("repair: %+v, without the hint %+v", hint, none)
	}
	for _, name := range []string{"as shipped", "without batching", "without pipelining", "without parallel-write", "repair as shipped", "repair without conflict-hint"} {
		f := rows[name]
		t.Logf("%-28s %4d messages, %3d syncs, %2d rejections, %v", name, f.messages, f.syncs, f.rejections, f.took)
	}
}

// Thesis §9.6: "The Pre-Vote algorithm solves the issue of a partitioned server
// disrupting the cluster when it rejoins." As shipped the term stays and nobody is
// elected; without pre-vote the returning replica's term deposes a healthy leader.
func TestPreVoteKeepsAHealthyLeader(t *testing.T) {
	disturbed := func(without ...string) bool {
		d := direct(t, ScriptOptions{Mode: Core, Without: without})
		d.lead(1)
		term := d.view(1).Term
		d.isolate(3, true)
		d.passing(10, func() {
			if v := d.view(1); v.Role != raft.Leader || v.Term != term {
				t.Fatalf("it cannot reach the leader yet: %+v", v)
			}
		})
		d.isolate(3, false)
		deposed := false
		d.passing(5, func() {
			v := d.view(1)
			deposed = deposed || v.Role != raft.Leader || v.Term != term
		})
		d.finish()
		return deposed
	}
	if disturbed() {
		t.Error("the leader was deposed")
	}
	if !disturbed("pre-vote") {
		t.Error("without pre-vote nobody was deposed: is the case still what it says?")
	}
}

// Thesis §4.2.3: "if a server receives a RequestVote request within the minimum
// election timeout of hearing from a current leader, it does not update its term
// or grant its vote." A replica that hears nobody and is heard stands again and
// again, without pre-vote in ever higher terms.
func TestVotersThatHearALeaderIgnoreVotes(t *testing.T) {
	deposed := func(without ...string) bool {
		d := direct(t, ScriptOptions{Mode: Core, Without: append(without, "pre-vote")})
		d.lead(1)
		term := d.view(1).Term
		d.Cut(1, 3)
		d.Cut(2, 3)
		gone := false
		d.passing(10, func() { gone = gone || d.view(1).Term != term })
		if d.view(3).Term <= term {
			t.Fatal("it never stood")
		}
		d.finish()
		return gone
	}
	if deposed() {
		t.Error("the leader was deposed")
	}
	if !deposed("leader-heard") {
		t.Error("without leader-heard nobody was deposed: is the case still what it says?")
	}
}

// Raft §5.2: "Raft uses randomized election timeouts to ensure that split votes
// are rare". With fixed ones, replicas that begin together split their votes for
// ever.
func TestFixedTimeoutsSplitVotesForEver(t *testing.T) {
	elected := func(without ...string) bool {
		d := direct(t, ScriptOptions{Mode: Core, Without: without})
		led := false
		d.passing(50, func() {
			for id := smr.ReplicaID(1); id <= 3; id++ {
				led = led || d.view(id).Role == raft.Leader
			}
		})
		return led
	}
	if !elected() {
		t.Error("no leader")
	}
	if elected("randomisation") {
		t.Error("without randomisation there is a leader: is the case still what it says?")
	}
}

// Every protection that can be switched off is shown to be needed: by seeds, by a
// test here, or elsewhere.
func TestEveryProtectionIsShown(t *testing.T) {
	shown := map[string]func(*testing.T){ // named so that they exist
		"pre-vote":       TestPreVoteKeepsAHealthyLeader,
		"leader-heard":   TestVotersThatHearALeaderIgnoreVotes,
		"randomisation":  TestFixedTimeoutsSplitVotesForEver,
		"conflict-hint":  TestFiguresSideBySide,
		"batching":       TestFiguresSideBySide,
		"pipelining":     TestFiguresSideBySide,
		"parallel-write": TestFiguresSideBySide,
	}
	elsewhere := map[string]string{
		"joint": "raft: TestRandomFindsWhatProtectionsPrevent",
		// It has no effect of its own while joint is on: see raft's switchTable.
		"own-term-config": "raft: TestChangesWaitForAnEntryOfTheOwnTerm",
		"image-marker":    "lab: TestProtectionsOfHostsHaveArms",
		"disk-watch":      "lab: TestProtectionsOfHostsHaveArms",
		// Without it a forwarded command that a leader change has swallowed ends as
		// "outcome unknown", which is no violation.
		"fence": "lab: TestProtectionsOfHostsHaveArms",
	}
	for _, c := range switchCases {
		shown[c.without] = TestSwitches
	}
	for _, p := range Protections() {
		where, ok := elsewhere[p.Name]
		if shown[p.Name] == nil && !ok {
			t.Errorf("nothing shows what %s is for", p.Name)
		}
		if ok && !declared(t, where) {
			t.Errorf("%s is shown by %s, which there is not", p.Name, where)
		}
	}
}

// What the docs say is tested, is: each test that they name is there.
func TestDocsNameTests(t *testing.T) {
	named := regexp.MustCompile("(?:`(\\w+)`: )?((?:`Test\\w+`(?:, )?)+)")
	count := 0
	for _, file := range []string{"simulation.md", "lab.md"} {
		b, err := os.ReadFile(filepath.Join("..", "docs", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			for _, name := range strings.Split(strings.TrimSuffix(m[2], ", "), ", ") {
				count++
				if where := cmp.Or(m[1], "sim") + ": " + strings.Trim(name, "`"); !declared(t, where) {
					t.Errorf("%s names %s, which there is not", file, where)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d tests are named", count)
	}
}

// declared reports whether another package has a test of that name.
func declared(t *testing.T, where string) bool {
	t.Helper()
	folder, name, _ := strings.Cut(where, ": ")
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+name+"(t *testing.T) {") {
			return true
		}
	}
	return false
}
