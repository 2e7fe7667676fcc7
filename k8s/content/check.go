package content

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/client-go/util/jsonpath"
)

// celCost ends an expression that computes for too long; looking at every field of
// a large object costs a hundredth of it.
const celCost = 1_000_000

// FieldPath evaluates a JSONPath over an object. The braces and the first dot may be
// left out.
func FieldPath(path string, object map[string]any) (string, error) {
	template := path
	if !strings.Contains(path, "{") {
		template = "{." + strings.TrimPrefix(path, ".") + "}"
	}
	p := jsonpath.New("fieldPath").AllowMissingKeys(true)
	if err := p.Parse(template); err != nil {
		return "", fmt.Errorf("stateCheck.fieldPath: %w", err)
	}
	var b bytes.Buffer
	if err := p.Execute(&b, object); err != nil {
		return "", fmt.Errorf("stateCheck.fieldPath: %w", err)
	}
	return Cut(b.String()), nil
}

// Expression evaluates CEL over an object. ready is nil unless the result is a
// Boolean.
func Expression(ctx context.Context, expression string, object map[string]any) (text string, ready *bool, err error) {
	value, err := evaluate(ctx, expression, object)
	if err != nil {
		return "", nil, fmt.Errorf("stateCheck.expression: %w", err)
	}
	switch v := value.(type) {
	case types.Bool:
		truth := bool(v)
		return fmt.Sprint(truth), &truth, nil
	case types.String:
		return Cut(string(v)), nil, nil
	case types.Null:
		return "", nil, nil
	}
	native, err := value.ConvertToNative(types.JSONValueType)
	if err != nil {
		return "", nil, fmt.Errorf("stateCheck.expression: the result is a %s: make it a string", value.Type().TypeName())
	}
	asJSON, err := protojson.Marshal(native.(*structpb.Value))
	if err != nil {
		return "", nil, fmt.Errorf("stateCheck.expression: %w", err)
	}
	var compact bytes.Buffer // protojson puts spaces in at random
	if err := json.Compact(&compact, asJSON); err != nil {
		return "", nil, fmt.Errorf("stateCheck.expression: %w", err)
	}
	return Cut(compact.String()), nil, nil
}

func evaluate(ctx context.Context, expression string, object map[string]any) (ref.Val, error) {
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType), cel.OptionalTypes(), ext.Strings())
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		// The library draws an arrow below the expression; one line is enough here.
		first, _, _ := strings.Cut(issues.Err().Error(), "\n")
		return nil, errors.New(first)
	}
	program, err := env.Program(ast, cel.CostLimit(celCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, err
	}
	value, _, err := program.ContextEval(ctx, map[string]any{"object": object})
	return value, err
}
