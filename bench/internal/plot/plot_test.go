package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() *Chart {
	return &Chart{
		Title: "Rate & <load>", X: "in flight", Y: "commands per second", LogX: true, LogY: true,
		Lines: []Line{
			{"alpha", []Point{{1, 2000}, {16, 31000}, {256, 190000}}},
			{"beta", []Point{{1, 1000}, {16, 9000}, {256, 188000}}},
			{"gamma", []Point{{1, 700}, {256, 187000}}},
		},
	}
}

// The pictures are kept, so that a change of the drawing is a change that is seen.
func TestGolden(t *testing.T) {
	linear := sample()
	linear.LogX, linear.LogY = false, false
	linear.XLabel = func(v float64) string { return "<" + plain(v) + ">" }
	for name, c := range map[string]*Chart{"log.svg": sample(), "linear.svg": linear} {
		got, err := c.SVG()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is drawn differently; look at it, and run the test with -update if it is right", name)
		}
		wellFormed(t, got)
	}
}

func wellFormed(t *testing.T, b []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
}

func TestWhatCannotBeDrawn(t *testing.T) {
	for name, spoil := range map[string]func(*Chart){
		"no lines":    func(c *Chart) { c.Lines = nil },
		"many lines":  func(c *Chart) { c.Lines = slices.Repeat(c.Lines, 3) },
		"no points":   func(c *Chart) { c.Lines[1].Points = nil },
		"zero in log": func(c *Chart) { c.Lines[0].Points[0].Y = 0 },
		"not sorted":  func(c *Chart) { slices.Reverse(c.Lines[0].Points) },
		"infinite":    func(c *Chart) { c.Lines[0].Points[2].Y = math.Inf(1) },
		"not a value": func(c *Chart) { c.Lines[0].Points[2].X = math.NaN() },
	} {
		c := sample()
		spoil(c)
		if _, err := c.SVG(); !errors.Is(err, ErrChart) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every point lies within the plot, and the names do not lie upon each other.
func TestPlaces(t *testing.T) {
	for _, log := range []bool{true, false} {
		for _, scale := range []float64{1e-6, 0.3, 1, 7, 1e9} {
			c := sample()
			c.LogY = log
			for i := range c.Lines {
				for k := range c.Lines[i].Points {
					c.Lines[i].Points[k].Y *= scale
				}
			}
			x, y := c.axes()
			if from, to := x.at(1), x.at(256); from != left+14 || to != right-14 {
				t.Errorf("the lines go from %v to %v and not through the whole width", from, to)
			}
			for _, l := range c.Lines {
				for _, p := range l.Points {
					if px, py := x.at(p.X), y.at(p.Y); px < left || px > right || py < top-0.01 || py > bottom+0.01 {
						t.Errorf("log %v, scale %v: (%v, %v) lies at (%v, %v)", log, scale, p.X, p.Y, px, py)
					}
				}
			}
			if n := len(y.ticks); n < 2 || n > 11 {
				t.Errorf("log %v, scale %v: %d ticks: %v", log, scale, n, y.ticks)
			}
			names := c.nameHeights(y)
			slices.Sort(names)
			for i := range names {
				if names[i] > bottom || i > 0 && names[i]-names[i-1] < 16 {
					t.Errorf("log %v, scale %v: names at %v", log, scale, names)
				}
			}
		}
	}
}

func TestSingleValue(t *testing.T) {
	for _, log := range []bool{true, false} {
		c := &Chart{Title: "one", LogX: log, LogY: log, Lines: []Line{{"a", []Point{{3, 1000}}}}}
		b, err := c.SVG()
		if err != nil || bytes.Contains(b, []byte("NaN")) || bytes.Contains(b, []byte("Inf")) {
			t.Errorf("log %v: %v\n%s", log, err, b)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 1: "1", 999: "999", 1000: "1k", 1500: "1.5k", 2e6: "2M", 3e9: "3G", 16384: "16.384k"} {
		if got := number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}
