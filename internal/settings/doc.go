// Package settings reads what an operator tells the server: etcd's flags, its
// ETCD_* environment variables and its YAML configuration file, under etcd's
// names and with etcd's precedence, so that a start-up script written for etcd
// starts Quorate.
//
//	flags ──┐ over
//	        ├──────► raw values ──► Settings ──► checked as a whole
//	env ────┘                          ▲
//	config file, alone if given ───────┘
//
// Every raw value remembers where it came from, so that an error names the
// flag, the variable or the key that the operator wrote.
//
// A flag of etcd's that Quorate does not have is never ignored silently: see
// foreign.go. If it would change what the operator relies on (data, security,
// limits) it is an error; if it only tunes what is built differently here it
// is a warning.
package settings
