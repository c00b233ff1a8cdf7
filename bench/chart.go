package main

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"
)

// The chart's measures, in pixels.
const (
	chartWidth = 760
	labelWidth = 270
	barWidth   = 340
	barHeight  = 14
	groupGap   = 14
	legendLine = 20
)

// colours of the servers, by name.
var colours = map[string]string{
	"ours": "#1f6feb", "fast": "#79b8ff", "caddy": "#2da44e", "nginx": "#8b949e", "apache": "#d4a72c",
	"floor": "#a2d9b1", "nethttp": "#d0d7de",
}

// svg draws a group of bars for each kind of visit. Within a group, the longest
// bar is as long as it gets, as kinds differ by far too much for one scale.
func (r *results) svg(w io.Writer) error {
	var b strings.Builder
	y := r.legend(&b)
	for _, k := range kinds {
		if r.samples[k.name] != nil {
			y = r.group(&b, k, y)
		}
	}
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<title>CPU time of the server for each visit, in µs</title>
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, chartWidth, y, b.String())
	return err
}

// legend names the servers, on as many lines as it takes.
func (r *results) legend(b *strings.Builder) (bottom int) {
	x, y := 10, 10
	for _, p := range r.peers {
		width := 35 + 7*len(p.title)
		if x > 10 && x+width > chartWidth {
			x, y = 10, y+legendLine
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", x, y, colours[p.name], x+17, y+10, html.EscapeString(p.title))
		x += width
	}
	y += legendLine
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="#666">µs of CPU for each visit</text>`+"\n", labelWidth, y+10)
	return y + legendLine
}

// group draws the bars of a kind, and returns where the next one begins.
func (r *results) group(b *strings.Builder, k kind, y int) (bottom int) {
	peers := slices.DeleteFunc(slices.Clone(r.peers), func(p *peer) bool { return r.samples[k.name][p.name] == nil })
	var longest time.Duration
	for _, p := range peers {
		longest = max(longest, r.median(k.name, p.name))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+(len(peers)*barHeight)/2+4, html.EscapeString(k.title))
	for _, p := range peers {
		length := float64(r.median(k.name, p.name)) / float64(longest) * barWidth
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, labelWidth, y, length, barHeight-2, colours[p.name])
		fmt.Fprintf(b, `<text x="%.1f" y="%d" font-size="11">%s</text>`+"\n", labelWidth+length+5, y+barHeight-4, r.cell(k, p))
		y += barHeight
	}
	return y + groupGap
}
