package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate/bench/internal/report"
)

// The rule by which something is level: leave out the first quarter of the
// samples, in which caches and buffers fill. Through the rest goes the line whose
// slope is the median of the slopes between all pairs of samples (Theil and Sen:
// a few samples that stand out do not move it). What it rises from the first of
// those samples to the last must be at most levelPart of their median, or at most
// the floor of what is measured, whichever is more.
const levelPart = 0.05

// samplesMin is how many samples a verdict needs, those left out included.
const samplesMin = 8

// growthOf is what was found out about one series of samples.
type growthOf struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// First and Last are the medians of the first and last quarter of what was
	// looked at, Rise what the line rises in between, Allowed what it may.
	First   float64      `json:"first"`
	Last    float64      `json:"last"`
	Rise    float64      `json:"rise"`
	Allowed float64      `json:"allowed"`
	State   report.State `json:"state"`
}

// growthIn applies the rule to samples taken at equal intervals.
func growthIn(name, unit string, samples []float64, floor float64) growthOf {
	g := growthOf{Name: name, Unit: unit, State: report.NotMeasured}
	if len(samples) < samplesMin {
		return g
	}
	v := samples[len(samples)/4:]
	part := max(1, len(v)/4)
	g.First, g.Last = report.Median(v[:part]), report.Median(v[len(v)-part:])
	g.Rise = medianSlope(v) * float64(len(v)-1)
	g.Allowed = max(floor, levelPart*report.Median(v))
	g.State = report.Missed
	if g.Rise <= g.Allowed {
		g.State = report.Met
	}
	return g
}

// medianSlope is the median of the slopes between all pairs, for each step.
func medianSlope(v []float64) float64 {
	var slopes []float64
	for i := range v {
		for j := i + 1; j < len(v); j++ {
			slopes = append(slopes, (v[j]-v[i])/float64(j-i))
		}
	}
	if len(slopes) == 0 {
		return math.NaN()
	}
	return report.Median(slopes)
}

// growthTable prints what was found out.
func growthTable(all []growthOf) report.Table {
	t := report.Table{Title: "Does anything grow?", Head: []string{"", "at first", "at last", "rise", "allowed", ""}}
	for _, g := range all {
		verdict := map[report.State]string{report.Met: "level", report.Missed: "GROWS", report.NotMeasured: "too few samples"}[g.State]
		cell := func(v float64) string { return report.Digits(v) + " " + g.Unit }
		if g.State == report.NotMeasured {
			t.Add(g.Name, "", "", "", "", verdict)
			continue
		}
		t.Add(g.Name, cell(g.First), cell(g.Last), cell(g.Rise), cell(g.Allowed), verdict)
	}
	t.Notes = []string{fmt.Sprintf("Rule: without the first quarter of the samples, the line through the rest (its slope is the median of those between all pairs) rises by at most %.0f %% of their median, or by the floor of each measure if that is more.", 100*levelPart)}
	return t
}

// grows reports whether any of them does, or was not measured.
func grows(all []growthOf) bool {
	return slices.ContainsFunc(all, func(g growthOf) bool { return g.State != report.Met })
}
