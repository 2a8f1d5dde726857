package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Raw is a value as it was given.
type Raw struct {
	Value  string
	Source Source
}

// Input is where settings come from.
type Input struct {
	// Flags that were given on the command line, by name without dashes.
	Flags map[string]string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// ReadFile reads the configuration file. Default: os.ReadFile.
	ReadFile func(path string) ([]byte, error)
}

const (
	configFile = "config-file"
	envPrefix  = "ETCD_"
)

// Load reads and checks the settings. All that is wrong is reported together:
// the error is a list (errors.Join) of *Error.
func Load(in Input) (*Settings, error) {
	if in.ReadFile == nil {
		in.ReadFile = os.ReadFile
	}
	s := defaults()
	given, err := s.gather(in)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, r := range given {
		if err := s.take(r.name, r.Raw); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = s.check()
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

type named struct {
	name string
	Raw
}

// gather decides which source counts, as etcd does: the configuration file
// alone if there is one, and else flags before environment variables.
func (s *Settings) gather(in Input) ([]named, error) {
	env := s.fromEnv(in.Environ)
	path := in.Flags[configFile]
	if path == "" {
		path = env[configFile].Value
	}
	var given []named
	if path != "" {
		raws, err := fromFile(path, in.ReadFile)
		if err != nil {
			return nil, err
		}
		s.warnShadowed(in.Flags, env, path)
		given = raws
	} else {
		for name, r := range env {
			if _, ok := in.Flags[name]; !ok && r.Value != "" {
				given = append(given, named{name, r})
			}
		}
		for name, v := range in.Flags {
			given = append(given, named{name, Raw{v, Source{Kind: FromFlag, Name: name}}})
		}
	}
	slices.SortFunc(given, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return given, nil
}

// fromEnv returns the ETCD_* variables by the names of their flags.
func (s *Settings) fromEnv(environ []string) map[string]Raw {
	env := map[string]Raw{}
	for _, kv := range environ {
		key, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(key, envPrefix)
		if !ok {
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		src := Source{Kind: FromEnv, Name: key}
		if _, isForeign := foreignByName(name); flagByName(name) == nil && !isForeign && name != configFile {
			// Other programs set variables beside etcd's: Kubernetes does for a
			// service called etcd. So this cannot be an error.
			s.Warnings = append(s.Warnings, Warning{src, "stands for no setting; it is ignored"})
			continue
		}
		env[name] = Raw{value, src}
	}
	return env
}

func (s *Settings) warnShadowed(flags map[string]string, env map[string]Raw, path string) {
	var shadowed []string
	for name := range flags {
		if name != configFile {
			shadowed = append(shadowed, "--"+name)
		}
	}
	for name, r := range env {
		if name != configFile {
			shadowed = append(shadowed, r.Source.Name)
		}
	}
	if len(shadowed) == 0 {
		return
	}
	slices.Sort(shadowed)
	s.Warnings = append(s.Warnings, Warning{Source{Kind: FromFlag, Name: configFile},
		fmt.Sprintf("%s holds all settings; %s are ignored", path, strings.Join(shadowed, ", "))})
}

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// take sets one setting.
func (s *Settings) take(name string, r Raw) error {
	if name == configFile {
		return nil
	}
	f := flagByName(name)
	if f == nil {
		return s.takeForeign(name, r)
	}
	if r.Value == "" && (f.Default == "" || r.Source.Kind != FromFlag) {
		return nil
	}
	if err := f.set(s, r.Value); err != nil {
		return &Error{Source: r.Source, Value: r.Value, Problem: err.Error(), Kind: ErrInvalid}
	}
	s.raw[name] = r
	return nil
}

func (s *Settings) takeForeign(name string, r Raw) error {
	f, ok := foreignByName(name)
	if !ok {
		return &Error{Source: r.Source, Value: r.Value, Problem: "neither etcd nor quorate has this setting",
			Hint: "quorate serve --help lists all", Kind: ErrUnknown}
	}
	w, err := f.judge(r)
	if err != nil {
		return err
	}
	if w != nil {
		s.Warnings = append(s.Warnings, *w)
	}
	return nil
}

// source is where a setting came from.
func (s *Settings) source(name string) Source {
	if r, ok := s.raw[name]; ok {
		return r.Source
	}
	return Source{Kind: FromDefault, Name: name}
}

func (s *Settings) given(name string) bool {
	_, ok := s.raw[name]
	return ok
}
