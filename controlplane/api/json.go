package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// JSON returns a message as one line of JSON for scripts. It differs from the
// standard mapping of protobuf where that is awkward in jq: 64-bit counters are
// numbers, not strings; enums are words, "ready" for HEALTH_READY; times are RFC
// 3339 and durations seconds with an s, "12.5s". Keys are never left out: what is
// not there is null, and an empty list [].
func JSON(m proto.Message) ([]byte, error) {
	var b bytes.Buffer
	if err := writeMessage(&b, m.ProtoReflect()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeMessage(b *bytes.Buffer, m protoreflect.Message) error {
	switch m := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return writeValue(b, m.AsTime().UTC().Format(time.RFC3339Nano))
	case *durationpb.Duration:
		return writeValue(b, secondsText(m.AsDuration()))
	}
	b.WriteByte('{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeValue(b, f.JSONName()); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := writeField(b, m, f); err != nil {
			return fmt.Errorf("%s: %w", f.JSONName(), err)
		}
	}
	b.WriteByte('}')
	return nil
}

// secondsText is exact, where a float would show 4.0487040499999996s.
func secondsText(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := fmt.Sprintf("%s%d.%09d", sign, d/time.Second, d%time.Second)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "s"
}

func writeField(b *bytes.Buffer, m protoreflect.Message, f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsList():
		list := m.Get(f).List()
		b.WriteByte('[')
		for i := range list.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeSingle(b, f, list.Get(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case f.HasPresence() && !m.Has(f):
		b.WriteString("null")
		return nil
	}
	return writeSingle(b, f, m.Get(f))
}

func writeSingle(b *bytes.Buffer, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return writeMessage(b, v.Message())
	case protoreflect.EnumKind:
		return writeValue(b, word(f.Enum(), v.Enum()))
	case protoreflect.BytesKind:
		return writeValue(b, base64.StdEncoding.EncodeToString(v.Bytes()))
	}
	return writeValue(b, v.Interface())
}

func writeValue(b *bytes.Buffer, v any) error {
	text, err := json.Marshal(v)
	b.Write(text)
	return err
}

// Word returns an enum's value as people write it: "ready" for HEALTH_READY.
func Word(e protoreflect.Enum) string { return word(e.Descriptor(), e.Number()) }

func word(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := e.Values().ByNumber(n)
	if v == nil {
		return fmt.Sprint(n) // from a newer gateway
	}
	prefix := strings.TrimSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}
