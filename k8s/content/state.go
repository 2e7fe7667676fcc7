package content

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// Progress says how objects that were applied are doing, in a phase (Ready,
// Progressing or Failed) and in words. The first that is not ready is named.
func Progress(objects []*unstructured.Unstructured) (v1alpha1.Phase, string) {
	waiting, text := 0, ""
	for _, u := range objects {
		result, err := status.Compute(u)
		if err != nil {
			return v1alpha1.PhaseFailed, fmt.Sprintf("%s: %v", Words(NameOf(u)), err)
		}
		switch result.Status {
		case status.CurrentStatus:
			if len(objects) == 1 {
				text = oneLine(result.Message)
			}
		case status.FailedStatus:
			return v1alpha1.PhaseFailed, fmt.Sprintf("%s: %s", Words(NameOf(u)), oneLine(result.Message))
		default:
			if waiting++; waiting == 1 {
				text = fmt.Sprintf("%s: %s", Words(NameOf(u)), oneLine(result.Message))
			}
		}
	}
	switch {
	case waiting > 1:
		return v1alpha1.PhaseProgressing, fmt.Sprintf("%s (and %d more)", text, waiting-1)
	case waiting == 1:
		return v1alpha1.PhaseProgressing, text
	case len(objects) == 1:
		return v1alpha1.PhaseReady, text
	}
	return v1alpha1.PhaseReady, fmt.Sprintf("%d objects ready", len(objects))
}

// maxState is the longest text of a state that the schema lets through.
const maxState = 4096

// oneLine makes a text fit a column.
func oneLine(s string) string { return Cut(strings.Join(strings.Fields(s), " ")) }

// Cut makes a text fit the schema, at the border of a character.
func Cut(s string) string {
	if len(s) <= maxState {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:maxState-len(more)], "") + more
}
