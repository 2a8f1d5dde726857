package lab

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/sim"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/index.html
var indexHTML string

//go:embed page/lab.css
var styleCSS string

//go:embed page/lab.js
var scriptJS string

var templates = template.Must(template.New("page").Parse(pageHTML))
var indexTemplate = template.Must(template.New("index").Parse(indexHTML))

// ArmLink is another arm of the same scenario, as the page shows it.
type ArmLink struct {
	Title, URL string
	Current    bool
	Observed   bool
	Violation  string
	Figures    []string
}

// page is what the template is filled with.
type page struct {
	*Result
	Title         string
	ArmTitle      string
	Style         template.CSS
	Script        template.JS
	Data          template.JS
	Diagram, Full template.HTML
	HasBeats      bool
	Violated      string
	Arms          []ArmLink
	IndexURL      string
	Protections   []protectionText
}

type protectionText struct{ Name, Meaning string }

// WritePage writes a page of its own that shows a run: nothing is loaded from
// elsewhere. arms, if not nil, are the scenario's arms to link to or compare
// with; index is the address of the page of all scenarios, or empty.
func WritePage(w io.Writer, res *Result, arms []ArmLink, index string) error {
	rec := res.Recording
	data, err := json.Marshal(frames(rec))
	if err != nil {
		return err
	}
	plain := newLayout(rec, false)
	p := page{
		Result: res, Title: res.Scenario.Name, ArmTitle: res.Arm.Title(),
		Style: template.CSS(styleCSS), Script: template.JS(scriptJS), //nolint:gosec // both are part of the program
		Data:    template.JS(data),                     //nolint:gosec // JSON escapes <, > and &
		Diagram: template.HTML(plain.diagram("plain")), //nolint:gosec // text in it is escaped
		Arms:    arms, IndexURL: index, Protections: meanings(res.Arm.Without),
	}
	for i := range rec.Letters {
		p.HasBeats = p.HasBeats || rec.Letters[i].Minor
	}
	if p.HasBeats {
		p.Full = template.HTML(newLayout(rec, true).diagram("full")) //nolint:gosec // as above
	}
	if res.Violation != nil {
		p.Violated = ViolationText(res.Violation)
	}
	var b bytes.Buffer
	if err := templates.Execute(&b, &p); err != nil {
		return err
	}
	_, err = b.WriteTo(w)
	return err
}

// Tidy is the set-up as it stands in the file.
func (p *page) Tidy() string { return strings.TrimSpace(p.Scenario.Source) }

// frame is one step of the cursor.
type frame struct {
	T string `json:"t"` // time
	// Y in the plain diagram and in the full one.
	Y [2]float64 `json:"y"`
	K string     `json:"k"` // kind
	R uint64     `json:"r,omitempty"`
	X string     `json:"x,omitempty"`
	L int        `json:"l"` // letter, or -1
	B bool       `json:"b,omitempty"`
	S []view     `json:"s,omitempty"`
}

// view is a replica's state for the script. The log is left out where it is as
// before.
type view struct {
	I  uint64 `json:"i"`
	U  bool   `json:"u"`
	P  string `json:"p,omitempty"`
	Ro string `json:"ro"`
	T  uint64 `json:"t"`
	Le uint64 `json:"le"`
	C  uint64 `json:"c"`
	A  uint64 `json:"a"`
	D  uint64 `json:"d"` // on disk
	N  int    `json:"n"`
	// F is the first index of the log, if it was compacted, and Sn what is being
	// done about a snapshot.
	F  uint64      `json:"f,omitempty"`
	Im uint64      `json:"im,omitempty"`
	Sn string      `json:"sn,omitempty"`
	Lg [][2]uint64 `json:"lg,omitempty"`
}

// pageData is all that the script needs.
type pageData struct {
	Replicas int               `json:"replicas"`
	Commands map[uint64]string `json:"commands"`
	Frames   []frame           `json:"frames"`
}

func frames(rec *Recording) pageData {
	d := pageData{Replicas: rec.Replicas, Commands: rec.Commands}
	plain, full := newLayout(rec, false), newLayout(rec, true)
	logs := map[uint64]string{}
	for i := range rec.Items {
		it := &rec.Items[i]
		f := frame{
			T: timeText(time.Duration(it.At)), Y: [2]float64{round(plain.y(it.At)), round(full.y(it.At))},
			K: string(it.Kind), R: uint64(it.Replica), X: frameText(rec, it), L: it.Letter,
			B: it.Kind == ItemState || it.Letter >= 0 && rec.Letters[it.Letter].Minor,
		}
		for k := range it.Changed {
			f.S = append(f.S, viewOf(&it.Changed[k], logs))
		}
		d.Frames = append(d.Frames, f)
	}
	return d
}

func round(f float64) float64 { return float64(int(f*10)) / 10 }

func frameText(rec *Recording, it *Item) string {
	if it.Letter < 0 {
		return it.Text
	}
	l := &rec.Letters[it.Letter]
	verb := map[ItemKind]string{ItemSend: "sends", ItemDeliver: "receives", ItemDrop: "lost"}[it.Kind]
	return fmt.Sprintf("%s %s %d → %d: %s", verb, l.Kind, l.From, l.To, l.Text)
}

func viewOf(v *sim.View, logs map[uint64]string) view {
	x := view{
		I: uint64(v.ID), U: v.Up, Ro: v.Role.String(), T: v.Term, Le: uint64(v.Leader), C: v.Commit, A: v.Applied, D: v.Persisted,
		N: len(v.Log), Im: v.Snapshots.Newest,
	}
	if v.First > 1 {
		x.F = v.First
	}
	if v.Up {
		x.Sn = snapshotText(v)
	}
	switch {
	case v.Paused:
		x.P = "paused"
	case v.ApplyPaused:
		x.P = "state machine paused"
	case v.DiskPaused:
		x.P = "disk paused"
	}
	key := fmt.Sprint(v.Log)
	if logs[x.I] != key {
		logs[x.I] = key
		for _, e := range v.Log {
			x.Lg = append(x.Lg, [2]uint64{e.Term, e.Command})
		}
	}
	return x
}
