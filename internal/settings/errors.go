package settings

import (
	"errors"
	"fmt"
)

// Every error of this package is or wraps an *Error, which wraps one of these.
var (
	// ErrInvalid: the value cannot be used. Correct it.
	ErrInvalid = errors.New("invalid setting")
	// ErrUnsupported: etcd has this setting and Quorate does not. Leave it out.
	ErrUnsupported = errors.New("setting is not supported by quorate")
	// ErrUnknown: neither has it. Check the spelling.
	ErrUnknown = errors.New("unknown setting")
	// ErrConflict: two settings do not fit each other.
	ErrConflict = errors.New("settings conflict")
)

// SourceKind says where a value came from.
type SourceKind uint8

const (
	// FromDefault is a value that nobody gave.
	FromDefault SourceKind = iota
	FromFlag
	FromEnv
	FromFile
)

// Source is where a value came from, in the words of whoever wrote it.
type Source struct {
	Kind SourceKind
	// Name is the flag without dashes, the variable, or the key (with the
	// section, as in peer-transport-security.cert-file).
	Name string
	// File is the configuration file of a key.
	File string
}

func (s Source) String() string {
	switch s.Kind {
	case FromFlag:
		return "--" + s.Name
	case FromEnv:
		return "environment variable " + s.Name
	case FromFile:
		return fmt.Sprintf("key %s of %s", s.Name, s.File)
	}
	return "--" + s.Name + " (default)"
}

// Error says which setting is wrong, why, and what to do.
type Error struct {
	Source Source
	// Value as it was given.
	Value string
	// Problem is what is wrong, Hint what to do about it.
	Problem, Hint string
	// Kind is one of the sentinels above.
	Kind error
}

func (e *Error) Error() string {
	s := e.Source.String()
	if e.Value != "" {
		s += fmt.Sprintf(" %q", e.Value)
	}
	s += ": " + e.Problem
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

// Warning is a setting that was accepted and has no effect, or not the one
// that it has in etcd.
type Warning struct {
	Source Source
	Text   string
}

func (w Warning) String() string { return w.Source.String() + ": " + w.Text }
