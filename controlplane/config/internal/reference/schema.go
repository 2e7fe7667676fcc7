package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluicegw/sluice/controlplane/config"
)

// configPackage is package config as seen from here: the comments are looked up
// by this path joined with the directory that the sources are read from.
const configPackage = "github.com/sluicegw/sluice/controlplane/config/internal/reference"

func schema() (*jsonschema.Schema, error) {
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		Mapper:                     scalar,
	}
	if err := r.AddGoComments(configPackage, "../..", jsonschema.WithFullComment()); err != nil {
		return nil, err
	}
	for key, text := range r.CommentMap {
		r.CommentMap[key] = description(key, text)
	}
	s := r.Reflect(&config.Config{})
	s.Title = "Sluice gateway configuration"
	return s, nil
}

// description turns a doc comment into a sentence for people who do not read Go:
// "API is the local control socket." becomes "The local control socket."
func description(key, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	name := key[strings.LastIndexByte(key, '.')+1:]
	rest, ok := strings.CutPrefix(text, name+" ")
	if !ok {
		return text
	}
	rest = strings.TrimPrefix(rest, "is ")
	return strings.ToUpper(rest[:1]) + rest[1:]
}

// scalar says what the values of our text types look like. The patterns are
// coarse: an editor's first hint, not the parser's judgement.
func scalar(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	switch t {
	case reflect.TypeFor[netip.Addr]():
		s.Pattern, s.Examples = `^[0-9A-Fa-f:.]+$`, []any{"192.0.2.1", "2001:db8::1"}
	case reflect.TypeFor[netip.Prefix]():
		s.Pattern, s.Examples = `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`, []any{"10.2.0.0/16", "fd10:2::/64"}
	case reflect.TypeFor[config.MAC]():
		s.Pattern, s.Examples = `^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$`, []any{"02:00:00:00:01:11"}
	case reflect.TypeFor[config.PublicKey]():
		s.Pattern = `^[A-Za-z0-9+/]{43}=$`
	case reflect.TypeFor[config.Endpoint]():
		s.Pattern = `^.+:[0-9]{1,5}$`
	case reflect.TypeFor[config.Rate]():
		s.Type, s.Pattern, s.Examples = "", `^[0-9]+(\.[0-9]+)?[kMG]?$`, []any{"100M", "2.5G"}
	case reflect.TypeFor[config.Protocol]():
		s.Type, s.Pattern, s.Examples = "", `^[a-z0-9]+$`, []any{"tcp", 47}
	case reflect.TypeFor[config.PortRange]():
		s.Type, s.Pattern, s.Examples = "", `^[0-9]{1,5}(-[0-9]{1,5})?$`, []any{443, "8000-8080"}
	case reflect.TypeFor[config.RouterID]():
		s.Pattern, s.Examples = `^[0-9.]+$`, []any{"10.255.0.1"}
	case reflect.TypeFor[config.RouterAddress]():
		s.Pattern, s.Examples = `^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$`, []any{"192.0.2.1", "192.0.2.128/25"}
	case reflect.TypeFor[config.Community]():
		s.Pattern, s.Examples = `^[0-9]+:[0-9]+(:[0-9]+)?$`, []any{"65001:100", "65001:1:2"}
	case reflect.TypeFor[config.VPNID]():
		s.Pattern, s.Examples = `^[0-9.]+:[0-9]+$`, []any{"65000:100", "10.255.0.1:100"}
	case reflect.TypeFor[config.ASNRange]():
		s.Type, s.Pattern, s.Examples = "", `^[0-9]{1,10}(-[0-9]{1,10})?$`, []any{65101, "65100-65199"}
	case reflect.TypeFor[config.ICMPType]():
		s.Type, s.Pattern, s.Examples = "", `^[0-9]{1,3}(/[0-9]{1,3})?$`, []any{8, "3/4"}
	case reflect.TypeFor[time.Duration]():
		s.Pattern = `^([0-9]+(\.[0-9]+)?(us|µs|ms|s|m|h))+$`
	default:
		return nil
	}
	return s
}

func schemaJSON(s *jsonschema.Schema) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
