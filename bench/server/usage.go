package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what the processes of a cluster use within a window.
type usage struct {
	cpu       time.Duration
	allocated float64 // bytes
	rssMiB    float64 // of all, at the end
	err       error
}

func (u *usage) begin(c *cluster) {
	u.allocated = -u.sum(c, allocated)
	u.cpu = -time.Duration(u.sum(c, processorTime))
}

func (u *usage) end(c *cluster) {
	u.cpu += time.Duration(u.sum(c, processorTime))
	u.allocated += u.sum(c, allocated)
	u.rssMiB = u.sum(c, resident) / (1 << 20)
}

func (u *usage) sum(c *cluster, of func(*member) (float64, error)) (sum float64) {
	for _, m := range c.members {
		v, err := of(m)
		u.err = errors.Join(u.err, err)
		sum += v
	}
	return sum
}

// clockTick is the unit of /proc's times: 100 a second on every Linux.
const clockTick = 10 * time.Millisecond

// processorTime is what a process has used, in nanoseconds, user and kernel.
func processorTime(m *member) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name stands in parentheses and may hold anything; behind it, utime
	// and stime are the 12th and 13th fields.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of process %d: %q", m.cmd.Process.Pid, b)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return float64(time.Duration(user+system) * clockTick), errors.Join(err1, err2)
}

// resident is the memory of a process, in bytes.
func resident(m *member) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of process %d: %q", m.cmd.Process.Pid, b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return float64(pages * int64(os.Getpagesize())), err
}

// plain asks for nothing compressed: that would count as the server's work.
var plain = &http.Client{Transport: &http.Transport{DisableCompression: true}}

// allocated is what a process has ever allocated, as its metrics say, in bytes;
// the echo has none.
func allocated(m *member) (float64, error) {
	if m.args[0] == "-echo-at" {
		return 0, nil
	}
	resp, err := plain.Get("http://" + m.client + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "go_memstats_alloc_bytes_total "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, errors.Join(errors.New("no go_memstats_alloc_bytes_total at /metrics"), lines.Err())
}

// startProfiles takes profiles of every member until the function that it
// returns is called, which waits for them. Nothing if none are asked for.
func (c *cluster) startProfiles(o *options, name string) (wait func()) {
	if o.profile == "" || c.name == "echo" {
		return func() {}
	}
	var all sync.WaitGroup
	get := func(m *member, kind, query string) {
		if err := save(fmt.Sprintf("http://%s/debug/pprof/%s", m.client, query), filepath.Join(o.profile, name+"-"+m.name+"-"+kind+".pprof")); err != nil {
			fmt.Fprintf(os.Stderr, "profile of %s: %v\n", m.name, err)
		}
	}
	for _, m := range c.members {
		all.Go(func() { get(m, "cpu", fmt.Sprintf("profile?seconds=%d", max(1, int(o.window.Seconds())))) })
		all.Go(func() { get(m, "allocs", fmt.Sprintf("allocs?seconds=%d", max(1, int(o.window.Seconds())))) })
	}
	return all.Wait
}

func save(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
