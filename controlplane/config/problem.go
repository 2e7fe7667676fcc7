package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration, and how to put it
// right.
type Problem struct {
	Line, Column int    // from 1; 0 when it is nowhere in particular
	Path         string // the key, as in vpcs[1].attachments[0].udpPort; may be empty
	Message      string
}

// Error is every problem of a configuration, in the order of the file.
type Error struct {
	Name     string // of the file; may be empty
	Problems []Problem
}

// Error returns one line for each problem:
//
//	sluice.yaml:12:5: vpcs[1].attachments[0].udpPort: must be 1 to 65535, not 70000
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Text(e.Name)
	}
	return strings.Join(lines, "\n")
}

// Text returns the problem as one line that begins with the name of its file.
func (p Problem) Text(name string) string {
	var b strings.Builder
	if name != "" {
		b.WriteString(name)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
}

// position is where a value is in the file.
type position struct{ line, column int }

// report collects problems, and knows where in the file each key is. Its zero
// value serves a configuration that came from no file.
type report struct {
	problems []Problem
	at       map[string]position // by path: the value of each key that the file gives
	bad      map[string]bool     // paths that have a problem already
}

// has says whether the file gives a value for the path.
func (r *report) has(path string) bool {
	_, ok := r.at[path]
	return ok
}

// add notes a problem of the value at path, unless that value, or one that it
// lies in, has a problem already: what follows from a mistake is not news.
func (r *report) add(path, format string, args ...any) {
	for p := path; ; p = parent(p) {
		if r.bad[p] {
			return
		}
		if p == "" {
			break
		}
	}
	r.addAt(r.where(path), path, format, args...)
}

func (r *report) addAt(pos position, path, format string, args ...any) {
	r.markBad(path)
	r.problems = append(r.problems, Problem{Line: pos.line, Column: pos.column, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (r *report) markBad(path string) {
	if r.bad == nil {
		r.bad = map[string]bool{}
	}
	r.bad[path] = true
}

// anyBad says whether some value in the tree below path has a problem.
func (r *report) anyBad(path string) bool {
	for p := range r.bad {
		if rest, ok := strings.CutPrefix(p, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// namesBad says whether the names of a list's n items are not all known: then
// that a name is not among them means nothing.
func (r *report) namesBad(list string, n int) bool {
	bad := r.bad[list]
	for i := range n {
		bad = bad || r.bad[element(list, i)] || r.bad[element(list, i)+".name"]
	}
	return bad
}

// where returns the position of the value at path or, when the file does not
// give it, of what should hold it.
func (r *report) where(path string) position {
	for p := path; p != ""; p = parent(p) {
		if pos, ok := r.at[p]; ok {
			return pos
		}
	}
	return r.at[""]
}

// ref names another key in a message, with its line when there is one.
func (r *report) ref(path string) string {
	if pos := r.where(path); pos.line > 0 {
		return fmt.Sprintf("%s (line %d)", path, pos.line)
	}
	return path
}

// parent returns the path without its last step; "" is the file.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// child returns the path of a key below path.
func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// element returns the path of a list's item.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
