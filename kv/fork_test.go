//go:build linux && amd64

package kv

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestForkPause measures what fork() would cost a process with so much memory, which
// is how Redis takes its snapshots: the pause while the page table is copied, and the
// faults afterwards, one for each page that is written for the first time. It runs with
// QUORATE_MEASURE=<MiB of memory>.
func TestForkPause(t *testing.T) {
	mib, _ := strconv.Atoi(os.Getenv("QUORATE_MEASURE"))
	if mib == 0 {
		t.Skip("QUORATE_MEASURE is not set")
	}
	memory, err := syscall.Mmap(-1, 0, mib<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	write := func() time.Duration {
		begun := time.Now()
		for i := 0; i < len(memory); i += 4096 {
			memory[i]++
		}
		return time.Since(begun)
	}
	write()
	plain := write()
	begun := time.Now()
	child, _, failed := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	if child == 0 {
		for failed == 0 { // it has one thread and cannot run Go: it waits to be killed
			_, _, _ = syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
		}
	}
	pause := time.Since(begun)
	if failed != 0 {
		t.Fatal(failed)
	}
	copied := write()
	if err := syscall.Kill(int(child), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := syscall.Wait4(int(child), nil, 0, nil); err != nil {
		t.Error(err)
	}
	t.Logf("%d MiB: fork took %v; writing to each page then %v, before %v", mib, pause, copied, plain)
}
