package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table prints aligned columns. A column whose title begins with ">" is aligned
// to the right, as numbers are.
type table struct {
	titles []string
	right  []bool
	rows   [][]string
}

func newTable(titles ...string) *table {
	t := &table{}
	for _, s := range titles {
		title, right := strings.CutPrefix(s, ">")
		t.titles, t.right = append(t.titles, title), append(t.right, right)
	}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.titles))
	rows := append([][]string{t.titles}, t.rows...)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				line += pad + cell + "  "
			} else {
				line += cell + pad + "  "
			}
		}
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// dash stands for an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// bytesText returns a number of bytes with three digits and a unit.
func bytesText(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for units := "KMGTPE"; value >= 1023.5 && unit < len(units)-1; unit++ {
		value /= 1024
	}
	digits := 2
	if value >= 99.95 {
		digits = 0
	} else if value >= 9.995 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %ciB", digits, value, "KMGTPE"[unit])
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
