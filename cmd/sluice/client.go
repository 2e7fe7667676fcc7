package main

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicegw/sluice/controlplane/api"
	"github.com/sluicegw/sluice/controlplane/api/sluice/v1/sluicev1connect"
	"github.com/sluicegw/sluice/controlplane/config"
)

// client is the flags of every command that asks a running gateway.
type client struct {
	socket string
	json   bool
}

func (c *client) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.socket, "socket", config.DefaultSocket, "the gateway's socket")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
}

func (c *client) dial() sluicev1connect.GatewayServiceClient { return api.Dial(c.socket) }

// print writes the answer as JSON, if that was asked for, or as a table.
func (c *client) print(w io.Writer, m proto.Message, table func(io.Writer) error) error {
	if !c.json {
		return table(w)
	}
	text, err := api.JSON(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// durationText returns "-" for what is absent.
func durationText(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return api.Age(d.AsDuration())
}

// agoText returns how long ago a time was, "never" for what is absent.
func agoText(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "never"
	}
	return api.Age(now.Sub(t.AsTime())) + " ago"
}
