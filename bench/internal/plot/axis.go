package plot

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// axis places values between two pixels.
type axis struct {
	log      bool
	low, top float64 // values at the ends
	from, to float64 // pixels there
	ticks    []float64
}

func (a *axis) at(v float64) float64 {
	low, high := a.low, a.top
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// axes fits both axes to the points.
func (c *Chart) axes() (x, y axis) {
	var xs, ys []float64
	for _, l := range c.Lines {
		for _, p := range l.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	x = axis{log: c.LogX, low: xs[0], top: xs[len(xs)-1], from: left + 14, to: right - 14, ticks: xs}
	if x.low == x.top { // a single value stands in the middle
		if x.log {
			x.low, x.top = x.low/2, x.top*2
		} else {
			x.low, x.top = x.low-1, x.top+1
		}
	}
	y = axis{log: c.LogY, from: bottom, to: top}
	if c.LogY {
		y.logScale(slices.Min(ys), slices.Max(ys))
	} else {
		y.linearScale(slices.Max(ys))
	}
	return x, y
}

// logScale goes from one of 1, 2 and 5 times a power of ten to another one, with
// ticks at all of them, or at the powers alone if they are many.
func (a *axis) logScale(low, high float64) {
	decade := math.Floor(math.Log10(low))
	var steps []float64
	for e := decade; ; e++ {
		for _, m := range []float64{1, 2, 5} {
			steps = append(steps, m*math.Pow(10, e))
		}
		if steps[len(steps)-3] > high {
			break
		}
	}
	first, last := 0, 0
	for i, s := range steps {
		if s <= low {
			first = i
		}
		if last == 0 && s >= high && i > first {
			last = i
		}
	}
	a.low, a.top = steps[first], steps[last]
	a.ticks = steps[first : last+1]
	if len(a.ticks) > 8 {
		a.ticks = slices.DeleteFunc(slices.Clone(a.ticks), func(v float64) bool {
			e := math.Log10(v)
			return math.Abs(e-math.Round(e)) > 1e-9
		})
	}
}

// linearScale goes from zero to a round number that is at least high, in four to
// eight round steps.
func (a *axis) linearScale(high float64) {
	if high <= 0 {
		high = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, m := range []float64{0.2, 0.5, 1, 2} {
		if n := high / (m * step); n <= 8 {
			step *= m
			break
		}
	}
	n := math.Ceil(high/step - 1e-9)
	a.low, a.top = 0, n*step
	for i := 0.0; i <= n; i++ {
		a.ticks = append(a.ticks, i*step)
	}
}

// number writes a value shortly: 1,000 is 1k.
func number(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.size*(1-1e-12) {
			return plain(v/u.size) + u.name
		}
	}
	return plain(v)
}

// plain writes v with at most three digits behind the point.
func plain(v float64) string {
	s := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}
