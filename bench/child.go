package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

// tmpfsMagic is what statfs calls a file system in memory.
const tmpfsMagic = 0x01021994

// checkDir makes the directory for the data absolute, and warns if it is not on
// a disk.
func checkDir(o *options) error {
	if o.dir == "" {
		o.dir = os.TempDir()
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	o.dir = dir
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("directory for the data: %w", err)
	}
	if fs.Type == tmpfsMagic {
		fmt.Fprintf(os.Stderr, "warning: %s is in memory, where a sync costs nothing; name a directory on a disk with -dir\n", dir)
	}
	return nil
}

// spawn runs one window in a process of its own.
func spawn(o *options, name string, w work, repeat int) (m measured, err error) {
	dir, err := os.MkdirTemp(o.dir, "quorate-bench-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	text, err := json.Marshal(w)
	if err != nil {
		return m, err
	}
	args := []string{"-child", name, "-work", string(text), "-dir", dir, "-for", o.window.String(), "-warm", o.warm.String()}
	if o.profile != "" {
		args = append(args, "-profile", filepath.Join(o.profile, fmt.Sprintf("%s-%s-%d-%d-%d-%d.pprof", name, w.Work, w.Payload, w.InFlight, w.Groups, repeat)))
	}
	cmd := exec.Command(self, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return m, fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), &m); err != nil {
		return m, fmt.Errorf("%w: %q", err, tail(stdout.String()))
	}
	return m, nil
}

func tail(s string) string {
	if len(s) > 2000 {
		s = "… " + s[len(s)-2000:]
	}
	return s
}

// startMax bounds a window's start, and closeMax its end: a system that hangs
// fails alone.
const startMax, closeMax = 60 * time.Second, 60 * time.Second

// runChild runs one window and writes its figures to standard output.
func runChild(o *options) error {
	var w work
	if err := json.Unmarshal([]byte(o.work), &w); err != nil {
		return err
	}
	kind, ok := systems[o.child]
	if !ok {
		return fmt.Errorf("no system %q", o.child)
	}
	limit := time.AfterFunc(startMax+o.warm+o.window+closeMax, func() {
		fmt.Fprintln(os.Stderr, "hangs")
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		os.Exit(2)
	})
	defer limit.Stop()
	s, err := kind.start(o.dir, w.Groups)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	m, err := measure(o, s, w)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		return err
	}
	return s.Close()
}

// measure loads s and measures a window.
func measure(o *options, s system, w work) (m measured, err error) {
	l, err := newLoad(s, w)
	if err != nil {
		return m, err
	}
	l.run()
	defer l.stop()
	time.Sleep(o.warm)
	stopProfiles, err := startProfiles(o.profile)
	if err != nil {
		return m, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := processorTime()
	l.begin()
	begun := time.Now()
	time.Sleep(o.window)
	ops, hist := l.end()
	passed := time.Since(begun)
	cpu = processorTime() - cpu
	runtime.ReadMemStats(&after)
	if err := stopProfiles(); err != nil {
		return m, err
	}
	if err := l.failure(); err != nil {
		return m, err
	}
	if ops == 0 {
		return m, errors.New("no operation was completed")
	}
	return measured{
		OpsPerS:     float64(ops) / passed.Seconds(),
		P50Ms:       hist.quantile(0.50).Seconds() * 1e3,
		P99Ms:       hist.quantile(0.99).Seconds() * 1e3,
		CPUSPer100k: cpu.Seconds() / float64(ops) * 1e5,
		BytesPerOp:  float64(after.TotalAlloc-before.TotalAlloc) / float64(ops),
		RSSMiB:      peakMemory(),
		Failed:      l.refused.Load(),
	}, nil
}

// startProfiles begins a processor profile at path, and returns what ends it and
// writes a profile of the allocations since the start beside it.
func startProfiles(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	cpu, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(path + ".allocs")
		if err != nil {
			return err
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), cpu.Close())
	}, nil
}

// processorTime is what this process has used, in user and kernel mode.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory is the largest resident set that this process has had, in MiB.
func peakMemory() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
