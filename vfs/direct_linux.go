package vfs

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openDirect asks the kernel what alignment direct I/O on the file needs, which
// Linux tells since 6.1. Without an answer it is not tried: a write that turns out
// to be refused is worse than one that is a little slower.
func openDirect(name string) (Direct, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_DIOALIGN, &st); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoDirect, name, err)
	}
	if st.Mask&unix.STATX_DIOALIGN == 0 || !divides(st.Dio_offset_align) || !divides(st.Dio_mem_align) {
		return nil, fmt.Errorf("%w: %s needs offsets aligned to %d and memory to %d bytes; zero: unknown", ErrNoDirect, name, st.Dio_offset_align, st.Dio_mem_align)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDirect, err)
	}
	return f, nil
}

// divides reports whether what is aligned to sectors is aligned to n bytes.
func divides(n uint32) bool { return n > 0 && SectorBytes%n == 0 }

// DirectAligned reports whether p may be written to a Direct at off.
func DirectAligned(p []byte, off int64) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return (uint64(at)|uint64(len(p))|uint64(off))%SectorBytes == 0 && len(p) > 0
}
