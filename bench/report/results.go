package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicegw/sluice/bench/method"
)

// Schema is the number of the format that we write.
const Schema = 1

// Results of one run of the harness on one machine.
type Results struct {
	Schema  int       `json:"schema"`
	Date    time.Time `json:"date"`
	Machine Machine   `json:"machine"`
	// Quick says that this was a trial run: few short slices, wide intervals.
	Quick bool `json:"quick,omitempty"`
	// Warnings that a reader has to know, such as that the machine was busy.
	Warnings    []string      `json:"warnings,omitempty"`
	Versions    []Version     `json:"versions,omitempty"`
	Unavailable []Unavailable `json:"unavailable,omitempty"`
	Memory      []Memory      `json:"memory,omitempty"`
	Duels       []Duel        `json:"duels,omitempty"`
	Rates       []Rates       `json:"rates,omitempty"`
	Scale       []Scale       `json:"scale,omitempty"`
	Recoveries  []Recovery    `json:"recoveries,omitempty"`
	Footprints  []Footprint   `json:"footprints,omitempty"`
}

// Version of a contestant, in its own words.
type Version struct {
	Contestant string `json:"contestant"`
	Text       string `json:"text"`
}

// Unavailable says why there is no figure.
type Unavailable struct {
	Contestant string `json:"contestant"`
	What       string `json:"what"`
	Reason     string `json:"reason"`
}

// Memory is a comparison without a kernel.
type Memory struct {
	Direction  string            `json:"direction"`
	Size       int               `json:"size"`
	Comparison method.Comparison `json:"comparison"`
}

// Duel is a comparison of Sluice with another in a scenario. Metric is what it is about.
type Duel struct {
	Scenario   method.Scenario   `json:"scenario"`
	Kind       string            `json:"kind"`           // "flood": packets; "tcp": one connection; "load": latency
	Rate       float64           `json:"rate,omitempty"` // packets per second that both are offered; of kind "load"
	Comparison method.Comparison `json:"comparison"`
}

// Kinds of duels.
const (
	Flood = "flood"
	TCP   = "tcp"
	// AtLoad compares latency at a load that both carry.
	AtLoad = "load"
)

// Rates of one contestant: the highest without loss, with 0.5 % loss, latency below that, bursts.
type Rates struct {
	Contestant string          `json:"contestant"`
	Scenario   method.Scenario `json:"scenario"`
	NDR        method.Rate     `json:"ndr"`
	PDR        method.Rate     `json:"pdr"`
	Latency    []Latency       `json:"latency,omitempty"`
	// Burst is the longest back-to-back burst that arrived as a whole; 0: not measured.
	Burst int `json:"burst,omitempty"`
}

// Latency at a share of a rate. When the NDR is unknown it is of the PDR.
type Latency struct {
	Load      float64           `json:"load"` // 0.5: half of the rate
	PPS       float64           `json:"pps"`
	Lost      float64           `json:"lost"`
	Quantiles []method.Quantile `json:"quantiles"`
	Buckets   []method.Bucket   `json:"buckets"`
}

// Scale compares a contestant (A) with itself when one number of the scenario is larger (B).
// The ratio of costs says how many times as much a packet costs then.
type Scale struct {
	Contestant string            `json:"contestant"`
	Scenario   method.Scenario   `json:"scenario"` // of B
	What       string            `json:"what"`     // routes, peers, flows, VNIs, workers
	From       int               `json:"from"`
	To         int               `json:"to"`
	Comparison method.Comparison `json:"comparison"`
}

// Recovery of a contestant.
type Recovery struct {
	Contestant string `json:"contestant"`
	method.Recovery
}

// Footprint is memory held, in bytes, by all processes of a contestant.
type Footprint struct {
	Contestant string `json:"contestant"`
	Processes  int    `json:"processes"`
	RSS        uint64 `json:"rss"`
	Peak       uint64 `json:"peak"`
}

// Name of the files, without extension: date and machine.
func (r Results) Name() string {
	name := r.Date.UTC().Format("2006-01-02") + "-" + r.Machine.Slug()
	if len(r.Machine.NICs) > 0 {
		name += "-nic"
	}
	if r.Quick {
		name += "-quick"
	}
	return name
}

// Read reads a JSON file.
func Read(path string) (r Results, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read results %s: %w", path, err)
	}
	if r.Schema != Schema {
		return r, fmt.Errorf("read results %s: schema %d, this program knows %d", path, r.Schema, Schema)
	}
	return r, nil
}

// Write writes all files of the results into a folder and returns the path of the JSON.
func Write(dir string, r Results) (string, error) {
	r.Schema = Schema
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", fmt.Errorf("write results: %w", err)
	}
	base := filepath.Join(dir, r.Name())
	if err := os.WriteFile(base+".json", append(text, '\n'), 0o644); err != nil {
		return "", err
	}
	plots, err := Plots(r)
	if err != nil {
		return "", err
	}
	for _, p := range plots {
		if err := os.WriteFile(base+"-"+p.Name+".svg", p.SVG, 0o644); err != nil {
			return "", err
		}
	}
	return base + ".json", os.WriteFile(base+".md", []byte(Markdown(r, plots)), 0o644)
}

// Newest is the path of the newest results that are no trial run.
func Newest(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return "", err
	}
	newest, when := "", time.Time{}
	for _, file := range files {
		if strings.HasSuffix(file, "-quick.json") {
			continue
		}
		r, err := Read(file)
		if err != nil {
			return "", err
		}
		if r.Date.After(when) {
			newest, when = file, r.Date
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no results in %s: `make bench` makes them", dir)
	}
	return newest, nil
}
