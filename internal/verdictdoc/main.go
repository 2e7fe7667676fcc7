// Command verdictdoc writes docs/verdicts.md: every verdict of the XDP program and
// of the workers with its meaning, from their tables, and what an operator should
// do about it, from advice.go.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluicegw/sluice/relay"
	"github.com/sluicegw/sluice/xdp"
)

//go:generate go run . -out ../../docs

// fileName of the document, in the directory that -out names.
const fileName = "verdicts.md"

func main() {
	out := flag.String("out", "", "directory to write verdicts.md to")
	flag.Parse()
	if err := os.WriteFile(filepath.Join(*out, fileName), generate(), 0o644); err != nil {
		slog.Error("write verdicts", "error", err)
		os.Exit(1)
	}
}

const intro = `<!-- Generated from xdp/verdict.go, relay/verdict.go and internal/verdictdoc by go generate. -->

# Verdicts

Every packet has one verdict of the XDP program, and every packet that this diverts, or that Sluice makes itself, ends
with one verdict of a worker. Each has a counter: ` + "`sluice counters`" + `, and in Prometheus ` + "`sluice_xdp_packets_total`" + ` and
` + "`sluice_relay_packets_total`" + ` with the label ` + "`verdict`" + `. To see the packets: ` + "`sluice capture --stage dropped`" + `, where the verdict
is the packet's comment. To ask why: ` + "`sluice trace`" + `.

A counter that stands still needs nobody. One that grows together with complaints does.
`

func generate() []byte {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString(`
## The XDP program

` + "`pass_…`" + `: the kernel gets the packet, untouched, as without Sluice. ` + "`divert_…`" + `: a worker gets it. ` + "`drop_…`" + `: it ends.

`)
	b.WriteString(head)
	for i := range xdp.NumVerdicts {
		v := xdp.Verdict(i)
		row(&b, v.String(), v.Explain())
	}
	b.WriteString("\n## The workers: where packets are meant to end\n\n")
	b.WriteString(head)
	for _, v := range relay.Verdicts() {
		if v.Good() {
			row(&b, v.String(), v.Explain())
		}
	}
	b.WriteString("\n## The workers: drops\n\nIn the order in which a packet meets them.\n\n")
	b.WriteString(head)
	for _, v := range relay.Verdicts() {
		if !v.Good() {
			row(&b, v.String(), v.Explain())
		}
	}
	return []byte(b.String())
}

const head = "| verdict | what it means | what to do |\n|---|---|---|\n"

func row(b *strings.Builder, name, why string) {
	cell := strings.NewReplacer("|", `\|`)
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, cell.Replace(why), cell.Replace(advice[name]))
}
