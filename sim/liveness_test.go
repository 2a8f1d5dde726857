package sim

import (
	"context"
	"testing"
)

// The table of partial partitions, with fewer seeds than the command runs: as
// shipped every row passes its gate. And each protection is there for a row: what
// it is said to save does not come back without it.
func TestLiveness(t *testing.T) {
	o := LivenessOptions{Seeds: 8, Graphs: 80, Base: *flagBase}
	if testing.Short() {
		o.Seeds, o.Graphs = 3, 20
	}
	table, err := MeasureLiveness(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\n%s", table.Elapsed, &table)
	for _, failed := range table.Failed() {
		t.Error(failed)
	}
	const plain, preVote, checkQuorum = 0, 1, 2
	for row, arm := range map[string]int{
		"quorum loss (5)": preVote, "leader heard by one only (4)": preVote, "leader that hears nothing (5)": preVote,
		"constrained election (5)": checkQuorum, "constrained election (4)": checkQuorum,
	} {
		for i := range table.Rows {
			r := &table.Rows[i]
			if c := &r.Cells[arm]; r.Name == row && len(c.Times) > 0 {
				t.Errorf("%s: %s comes back after %v", row, LivenessArms[arm].Name, c.Times)
			}
		}
	}
	for i := range table.Rows {
		if r := &table.Rows[i]; r.stable && last(r.Cells[plain].Changes) < 2 {
			t.Errorf("%s: plain Raft is said to have no rest there, and its leader changed %v times", r.Name, r.Cells[plain].Changes)
		}
	}
}
