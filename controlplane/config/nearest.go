package config

import "strings"

// nearest returns the word that s was most likely meant to be. Words that differ
// only in case or in dashes and underscores are nearest of all; otherwise a third
// of the letters may differ.
func nearest(s string, words []string) (string, bool) {
	best, found := "", false
	limit := max(len(s)/3, 1) + 1
	plain := plainWord(s)
	for _, w := range words {
		if d := distance(plain, plainWord(w), limit); d < limit {
			best, found, limit = w, true, d
		}
	}
	return best, found
}

func plainWord(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance is how many bytes must be inserted, deleted, replaced or swapped with
// their neighbour to turn a into b (optimal string alignment). It gives up at
// limit, which also bounds the work for a long word.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
