package lab

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// topics is the order in which the index shows them; others follow.
var topics = []string{"Foundations", "Leaders and logs", "Elections", "Partitions", "Clients", "Disks", "Performance", "Properties"}

// Handler serves the index at / and each scenario's page at /NAME, with
// ?without=a,b for its other arms. Every request runs the scenario anew.
func Handler() (http.Handler, error) {
	all, err := LoadAll()
	if err != nil {
		return nil, err
	}
	index, err := renderIndex(all)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(index) // the client may have left
	})
	mux.HandleFunc("GET /{name}", servePage)
	return mux, nil
}

func servePage(w http.ResponseWriter, r *http.Request) {
	var without []string
	if q := r.URL.Query().Get("without"); q != "" {
		without = strings.Split(q, ",")
	}
	var b bytes.Buffer
	if err := render(r.Context(), &b, r.PathValue("name"), without); err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, ErrUnknown) {
			code = http.StatusNotFound
		}
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = b.WriteTo(w) // the client may have left
}

func render(ctx context.Context, b *bytes.Buffer, name string, without []string) error {
	s, err := Load(name)
	if err != nil {
		return err
	}
	arm, err := s.Arm(without)
	if err != nil {
		return err
	}
	res, err := Run(ctx, s, arm)
	if err != nil {
		return err
	}
	arms, err := RunAll(ctx, s, arm, func(a *Arm) string { return armURL(s, a) })
	if err != nil {
		return err
	}
	return WritePage(b, res, arms, "/")
}

func armURL(s *Scenario, a *Arm) string {
	u := "/" + s.Name
	if len(a.Without) > 0 {
		u += "?without=" + url.QueryEscape(strings.Join(a.Without, ","))
	}
	return u
}

// indexScenario and indexTopic fill the index.
type indexScenario struct {
	*Scenario
	Links []ArmLink
}

type indexTopic struct {
	Name      string
	Scenarios []indexScenario
}

func renderIndex(all []*Scenario) ([]byte, error) {
	var list []indexTopic
	for _, name := range topics {
		list = append(list, indexTopic{Name: name})
	}
	for _, s := range all {
		i := slices.IndexFunc(list, func(t indexTopic) bool { return t.Name == s.Topic })
		if i < 0 {
			i = len(list)
			list = append(list, indexTopic{Name: s.Topic})
		}
		x := indexScenario{Scenario: s}
		for k := range s.Arms {
			x.Links = append(x.Links, ArmLink{Title: s.Arms[k].Title(), URL: armURL(s, &s.Arms[k])})
		}
		list[i].Scenarios = append(list[i].Scenarios, x)
	}
	list = slices.DeleteFunc(list, func(t indexTopic) bool { return len(t.Scenarios) == 0 })
	var b bytes.Buffer
	err := indexTemplate.Execute(&b, map[string]any{"Style": template.CSS(styleCSS), "Topics": list}) //nolint:gosec // part of the program
	return b.Bytes(), err
}
