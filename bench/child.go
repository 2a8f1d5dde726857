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

// order is what a process of its own is to do.
type order struct {
	Job     string        `json:"job"` // one of jobs
	System  string        `json:"system"`
	Work    work          `json:"work"`
	Dir     string        `json:"dir"`
	Window  time.Duration `json:"window"`
	Warm    time.Duration `json:"warm"`
	Profile string        `json:"profile,omitempty"`
	Entries int           `json:"entries,omitempty"`
}

// jobs are what a process of its own can do, by name.
var jobs = map[string]func(*order) (any, error){
	"window":   jobWindow,
	"fill":     jobFill,
	"restart":  jobRestart,
	"failover": jobFailover,
	"handover": jobHandOver,
	"idle":     jobIdle,
}

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

// spawn carries an order out in a process of its own and decodes what it found
// out into result. Without a directory it gets an empty one.
func spawn(o *options, w order, result any) error {
	if w.Dir == "" {
		dir, err := os.MkdirTemp(o.dir, "quorate-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		w.Dir = dir
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-child", string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, tail(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), result); err != nil {
		return fmt.Errorf("%w: %q", err, tail(stdout.String()))
	}
	return nil
}

func tail(s string) string {
	if len(s) > 2000 {
		s = "… " + s[len(s)-2000:]
	}
	return s
}

// startMax bounds a window's start, and closeMax its end: a system that hangs
// fails alone. Each group may add startGroupMax to both.
const startMax, closeMax, startGroupMax = 60 * time.Second, 60 * time.Second, 50 * time.Millisecond

// runChild carries an order out and writes what it found out to standard output.
func runChild(text string) error {
	var w order
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return err
	}
	job, ok := jobs[w.Job]
	if !ok {
		return fmt.Errorf("no job %q", w.Job)
	}
	limit := time.AfterFunc(startMax+closeMax+2*time.Duration(w.Work.Groups)*startGroupMax+2*(w.Warm+w.Window), func() {
		fmt.Fprintln(os.Stderr, "hangs")
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		os.Exit(2)
	})
	defer limit.Stop()
	result, err := job(&w)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// start starts the system of an order.
func (w *order) start() (system, error) {
	kind, ok := systems[w.System]
	if !ok {
		return nil, fmt.Errorf("no system %q", w.System)
	}
	s, err := kind.start(setup{dir: w.Dir, groups: w.Work.Groups, replicas: w.Work.Replicas, without: w.Work.Without})
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return s, nil
}

// jobWindow measures one window.
func jobWindow(w *order) (any, error) {
	s, err := w.start()
	if err != nil {
		return nil, err
	}
	m, err := measure(w, s)
	return m, errors.Join(err, s.Close())
}

// measure loads s and measures a window.
func measure(o *order, s system) (m measured, err error) {
	l, err := newLoad(s, o.Work)
	if err != nil {
		return m, err
	}
	l.run()
	defer l.stop()
	time.Sleep(o.Warm)
	stopProfiles, err := startProfiles(o.Profile)
	if err != nil {
		return m, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := processorTime()
	l.begin()
	begun := time.Now()
	time.Sleep(o.Window)
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
		P999Ms:      hist.quantile(0.999).Seconds() * 1e3,
		CPUSPer100k: cpu.Seconds() / float64(ops) * 1e5,
		BytesPerOp:  float64(after.TotalAlloc-before.TotalAlloc) / float64(ops),
		RSSMiB:      memory("VmHWM"),
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

// memory is a line of /proc/self/status, in MiB: VmHWM, the largest resident set
// that this process has had, or VmRSS, what it has now.
func memory(line string) float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for text := range strings.Lines(string(b)) {
		var kib float64
		if n, _ := fmt.Sscanf(text, line+": %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
