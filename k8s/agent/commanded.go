package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicegw/sluice/k8s/api/v1alpha1"
)

// run does what has to be done about a Mission that has a command, and is meant for
// this cluster. What runs is noted before it runs, so that it can be undone by
// whoever comes after us.
func (r *contents) run(ctx context.Context, m *v1alpha1.Mission) (outcome, error) {
	want, note := m.Spec.Command, notedRun(m)
	commands := [][]string{want.Trigger, want.Command, want.ReverseCommand}
	if m.Spec.StateCheck != nil {
		commands = append(commands, m.Spec.StateCheck.Command)
	}
	if err := r.commands.allowed(commands...); err != nil {
		return failed(err.Error(), nil).noting(note), nil
	}
	if m.Spec.StateCheck != nil && len(m.Spec.StateCheck.Command) == 0 {
		return failed("stateCheck: a Mission with a command has no object to look at; ask a command", nil).noting(note), nil
	}
	if note != nil && !sameRun(note, want) {
		if out := r.undo(m, outcome{}); out.run != nil {
			return out, nil
		}
		note = nil
	}
	if note == nil || !note.Done {
		if phase, text := r.waitsFor(ctx, m); text != "" {
			return outcome{MissionState: v1alpha1.MissionState{Phase: phase, State: text}}.noting(note), nil
		}
	}
	running := v1alpha1.MissionState{Phase: v1alpha1.PhaseProgressing, State: "the command runs"}
	if note == nil {
		note = &v1alpha1.MissionRun{
			Command: want.Command, ReverseCommand: want.ReverseCommand, Background: want.Background, Timeout: metav1.Duration{Duration: limit(want)},
		}
		if err := r.write(ctx, m, running, nil, note); err != nil {
			return outcome{}, err
		}
	}
	now := note.DeepCopy()
	out := outcome{run: now}
	name, spec, done := m.Name, m.Spec.DeepCopy(), note.Done // m is overwritten while the job runs
	result, known, again := r.commands.look(name, fmt.Sprintf("run %d", generation(m)), func(ctx context.Context) verdict {
		return r.commands.bring(ctx, name, *spec, done)
	})
	switch {
	case known:
		out.Phase, out.State, out.again = result.phase, result.state, again
		now.Done = now.Done || !result.failed()
	case now.Done: // only looked at again
		out.MissionState = m.Status.Local.MissionState
	default:
		out.MissionState = running
	}
	return out, nil
}

// undo takes back what was run. The outcome has a note as long as that is not done.
func (r *contents) undo(m *v1alpha1.Mission, out outcome) outcome {
	note := notedRun(m)
	if note == nil {
		return out
	}
	if m.Spec.Deletion == v1alpha1.Orphan { // what goes on running is ours, and is not left behind
		note.ReverseCommand = nil
	}
	name := m.Name
	result, known, again := r.commands.look(name, "undo "+strings.Join(note.ReverseCommand, "\x00"), func(ctx context.Context) verdict {
		return r.commands.undo(ctx, name, *note)
	})
	if known && !result.failed() {
		r.commands.forget(m.Name)
		return out
	}
	out.run, out.Phase, out.State, out.again = notedRun(m), v1alpha1.PhaseDeleting, "the command is being undone", again
	if known {
		out.State = result.state
	}
	return out
}

// checkByCommand runs the command of a stateCheck of objects.
func (r *contents) checkByCommand(m *v1alpha1.Mission, out *outcome) {
	name, argv := m.Name, slices.Clone(m.Spec.StateCheck.Command)
	if err := r.commands.allowed(argv); err != nil {
		out.Phase, out.State = v1alpha1.PhaseFailed, "stateCheck.command: "+err.Error()
		return
	}
	fine := verdict{phase: v1alpha1.PhaseReady, again: lookAgain}
	result, known, again := r.commands.look(name, fmt.Sprintf("check %d", generation(m)), func(ctx context.Context) verdict {
		return r.commands.check(ctx, name, argv, defaultLimit, fine)
	})
	switch local := m.Status.Local; {
	case known && (result.failed() || out.Phase == v1alpha1.PhaseReady):
		out.Phase, out.State, out.again = result.phase, result.state, again
	case known:
		out.State, out.again = result.state, again
	case local != nil && local.ObservedGeneration == generation(m) && local.State != "":
		out.Phase, out.State = local.Phase, local.State
	default:
		out.Phase, out.State = v1alpha1.PhaseProgressing, "the command of the stateCheck runs"
	}
}

// noting keeps a note.
func (out outcome) noting(note *v1alpha1.MissionRun) outcome {
	out.run = note
	return out
}

// notedRun is a copy of what is noted to run, or to have run, in this cluster.
func notedRun(m *v1alpha1.Mission) *v1alpha1.MissionRun {
	if m.Status.Local == nil {
		return nil
	}
	return m.Status.Local.Run.DeepCopy()
}

func sameRun(note *v1alpha1.MissionRun, want *v1alpha1.MissionCommand) bool {
	return slices.Equal(note.Command, want.Command) && slices.Equal(note.ReverseCommand, want.ReverseCommand) && note.Background == want.Background
}
