package report

import "fmt"

// State is whether a target is reached.
type State string

// The three states. NotMeasured says that a figure that the target needs is
// missing, which is neither good nor bad.
const (
	Met         State = "met"
	Missed      State = "missed"
	NotMeasured State = "not measured"
)

// Verdict is a target beside what was measured.
type Verdict struct {
	What  string `json:"what"`
	Want  string `json:"want"`
	Got   string `json:"got"`
	State State  `json:"state"`
}

// AtLeast wants got to be at least factor times base, which of names. A figure
// of zero was not measured.
func AtLeast(what string, got, factor, base float64, of string) Verdict {
	v := Verdict{What: what, Want: fmt.Sprintf("≥ %v × %s", factor, of), State: NotMeasured}
	if got > 0 && base > 0 {
		v.Got = times(got/base) + of
		v.State = state(got >= factor*base)
	}
	return v
}

// AtMostOf wants got to be at most factor times base, which of names.
func AtMostOf(what string, got, factor, base float64, of string) Verdict {
	v := Verdict{What: what, Want: fmt.Sprintf("≤ %v × %s", factor, of), State: NotMeasured}
	if got > 0 && base > 0 {
		v.Got = times(got/base) + of
		v.State = state(got <= factor*base)
	}
	return v
}

// AtMost wants got, which measured says is known, to be at most limit.
func AtMost(what string, got, limit float64, unit string, measured bool) Verdict {
	v := Verdict{What: what, Want: fmt.Sprintf("≤ %s %s", wanted(limit), unit), State: NotMeasured}
	if measured {
		v.Got = Digits(got) + " " + unit
		v.State = state(got <= limit)
	}
	return v
}

// wanted writes a limit as it was set.
func wanted(limit float64) string {
	if limit < 100 {
		return fmt.Sprint(limit)
	}
	return Count(limit)
}

func times(factor float64) string { return Digits(factor) + " × " }

func state(ok bool) State {
	if ok {
		return Met
	}
	return Missed
}

// Verdicts is the table of targets.
func Verdicts(all []Verdict) Table {
	t := Table{Title: "Targets", Head: []string{"target", "wanted", "measured", ""}}
	for _, v := range all {
		t.Add(v.What, v.Want, v.Got, string(v.State))
	}
	return t
}
