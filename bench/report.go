package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are the samples of a run.
type results struct {
	rounds, visits int
	peers          []*peer
	samples        map[string]map[string][]sample // by kind and peer
	memory         []memory
}

// memory is what a server had at its peak.
type memory struct {
	Server string `json:"server"`
	Bytes  int64  `json:"peak_bytes"`
}

// addMemory asks a server what it had at its peak.
func (r *results) addMemory(p *peer) error {
	peak, err := p.peakMemory()
	r.memory = append(r.memory, memory{p.title, peak})
	return err
}

func newResults(o *options, peers []*peer) *results {
	return &results{rounds: o.rounds, visits: o.visits, peers: peers, samples: make(map[string]map[string][]sample)}
}

func (r *results) add(k *kind, p *peer, s sample) {
	if r.samples[k.name] == nil {
		r.samples[k.name] = make(map[string][]sample)
	}
	r.samples[k.name][p.name] = append(r.samples[k.name][p.name], s)
}

// median returns the median CPU time of a visit, or 0 if there was none.
func (r *results) median(kind, peer string) time.Duration {
	var all []time.Duration
	for _, s := range r.samples[kind][peer] {
		all = append(all, s.cpu)
	}
	return middle(all)
}

// ratio returns the median of what a round of one peer cost, compared with the
// same round of another, or 0 if there is nothing to compare. What others can't do,
// TFTP and inventories, is compared with what they do with files.
func (r *results) ratio(kind, peer, to string) float64 {
	alone := strings.HasPrefix(kind, "tftp") || strings.HasPrefix(kind, "inventory")
	if alone && r.samples[kind][to] == nil {
		return r.compare(r.samples[kind][peer], r.samples["keepalive"][to])
	}
	return r.compare(r.samples[kind][peer], r.samples[kind][to])
}

func (*results) compare(ours, theirs []sample) float64 {
	var all []float64
	for i := range min(len(ours), len(theirs)) {
		all = append(all, float64(ours[i].cpu)/float64(theirs[i].cpu))
	}
	return middle(all)
}

func middle[T time.Duration | float64](all []T) T {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	n := len(all) / 2
	if len(all)%2 == 0 {
		return (all[n-1] + all[n]) / 2
	}
	return all[n]
}

// markdown writes the table.
func (r *results) markdown(w io.Writer) {
	head := []string{"visit"}
	for _, p := range r.peers {
		head = append(head, p.title)
	}
	for _, p := range r.peers {
		for _, to := range r.others(p) {
			head = append(head, p.title+" / "+to.title)
		}
	}
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, k := range kinds {
		if r.samples[k.name] == nil {
			continue
		}
		row := []string{k.title}
		for _, p := range r.peers {
			row = append(row, r.cell(k, p))
		}
		for _, p := range r.peers {
			for _, to := range r.others(p) {
				row = append(row, ratioText(r.ratio(k.name, p.name, to.name)))
			}
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintf(w, "\nCPU time of the server for each visit in µs, medians of %d rounds of %d visits (keep-alive: more); ratios are medians of the rounds' ratios.\n", r.rounds, r.visits)
	fmt.Fprintf(w, "%s, %d CPUs, %s.\n", cpuModel(), runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(w, "\n| server | peak memory, MB |\n| --- | --- |\n")
	for _, m := range r.memory {
		fmt.Fprintf(w, "| %s | %d |\n", m.Server, m.Bytes>>20)
	}
}

// others are the servers that ours are compared with.
func (r *results) others(p *peer) []*peer {
	if !p.ours {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.peers), func(to *peer) bool { return to.ours })
}

func (r *results) cell(k kind, p *peer) string {
	samples := r.samples[k.name][p.name]
	if len(samples) == 0 {
		return "–"
	}
	text := micros(r.median(k.name, p.name))
	if k.resumed && !samples[0].resumed {
		text += " (no resumption)"
	}
	return text
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }

func ratioText(ratio float64) string {
	if ratio == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ratio)
}

// cpuModel is what the kernel calls the processor.
func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}

// figure is what is written as JSON for a kind and a server.
type figure struct {
	Visit   string             `json:"visit"`
	Server  string             `json:"server"`
	CPU     float64            `json:"cpu_us"`    // of a visit, median
	Rate    float64            `json:"visits_s"`  // visits in a second, median
	Rounds  []float64          `json:"rounds_us"` // of a visit, each round
	Ratios  map[string]float64 `json:"ratios"`    // to other servers
	Resumed bool               `json:"resumed"`   // with the session of an earlier visit
}

// json writes all figures.
func (r *results) json(w io.Writer) error {
	out := struct {
		CPU     string   `json:"cpu"`
		CPUs    int      `json:"cpus"`
		Go      string   `json:"go"`
		Rounds  int      `json:"rounds"`
		Visits  int      `json:"visits"`
		Figures []figure `json:"figures"`
		Memory  []memory `json:"memory"`
	}{cpuModel(), runtime.NumCPU(), runtime.Version(), r.rounds, r.visits, nil, r.memory}
	for _, k := range kinds {
		for _, p := range r.peers {
			if samples := r.samples[k.name][p.name]; len(samples) > 0 {
				out.Figures = append(out.Figures, r.figure(k, p, samples))
			}
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

func (r *results) figure(k kind, p *peer, samples []sample) figure {
	f := figure{
		Visit: k.name, Server: p.name, Ratios: make(map[string]float64), Resumed: samples[0].resumed,
		CPU: float64(r.median(k.name, p.name)) / float64(time.Microsecond),
	}
	var rates []float64
	for _, s := range samples {
		f.Rounds = append(f.Rounds, float64(s.cpu)/float64(time.Microsecond))
		rates = append(rates, float64(k.count(r.visits))/s.elapsed.Seconds())
	}
	f.Rate = middle(rates)
	for _, to := range r.others(p) {
		if ratio := r.ratio(k.name, p.name, to.name); ratio > 0 {
			f.Ratios[to.name] = ratio
		}
	}
	return f
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
