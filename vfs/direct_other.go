//go:build !linux

package vfs

func openDirect(string) (Direct, error) { return nil, ErrNoDirect }

// DirectAligned reports whether p may be written to a Direct at off.
func DirectAligned([]byte, int64) bool { return false }
