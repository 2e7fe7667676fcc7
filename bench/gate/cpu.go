package gate

import (
	"os"
	"runtime"
	"strings"
)

// CPU is a kind of CPU: who has made it, and its family and model there.
type CPU string

// thisCPU is what /proc/cpuinfo says of the first one; architectures that say nothing are one kind.
func thisCPU() CPU {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return CPU(runtime.GOARCH)
	}
	return parseCPU(string(text))
}

func parseCPU(text string) CPU {
	words := []string{runtime.GOARCH}
	first, _, _ := strings.Cut(text, "\n\n")
	for line := range strings.Lines(first) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "vendor_id", "cpu family", "model":
			words = append(words, strings.TrimSpace(value))
		}
	}
	return CPU(strings.Join(words, " "))
}
