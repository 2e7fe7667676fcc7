package config

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// Marshal writes the configuration as YAML, with every default that was applied.
// Parse reads it back to the same configuration.
func (c *Config) Marshal() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
