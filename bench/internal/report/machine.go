package report

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Machine describes where and when a benchmark begins, in one line.
func Machine() string {
	return fmt.Sprintf("%s: %d × %s, %s %s, %s", time.Now().UTC().Format(time.DateOnly),
		runtime.NumCPU(), processor(), runtime.GOOS, firstField("/proc/sys/kernel/osrelease"), runtime.Version())
}

// LoadAverage is that of the last minute: how many processors' worth of work
// there was, this process's included.
func LoadAverage() string { return firstField("/proc/loadavg") }

func firstField(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	return first
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
