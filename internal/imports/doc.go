// Package imports holds a test and no code: it enforces which package may import
// which (the table of docs/architecture.md), and that the parts which must be
// deterministic read no clock, start no goroutine and use no global randomness.
// A wrong import fails the build, not a review.
//
// It reads the source files rather than what "go list" prints, so that files for
// other operating systems count too.
package imports
