// Package lab holds scenarios: short scripts that put a question of the papers
// on Raft to the code that production runs, and show what happens, once as
// shipped and once without the protection that the question is about.
//
// A scenario is one text file, scenarios/NAME.txt, that poses its question,
// answers it, sets a cluster up, acts, and says for each of its arms what must
// be observed. docs/lab.md describes the language. Package sim runs it: bare
// cores, whole hosts, or a swarm of faults, in virtual time, under the checkers
// of the simulation.
//
// A run is recorded (Recording) and shown as a timeline for a terminal
// (WriteText) or as a page with a space-time diagram (WritePage); Handler serves
// the pages.
package lab
