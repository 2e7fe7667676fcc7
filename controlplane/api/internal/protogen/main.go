// Command protogen makes the Go code of the API's protobuf files.
//
// It stands in for protoc, which is not a Go program and so cannot be pinned in
// go.mod: protocompile, the compiler inside buf, parses the files, and the
// plugins of google.golang.org/protobuf and connectrpc.com/connect, run at the
// versions in go.mod, write the code. Same inputs, same bytes, on any machine.
//
//	go run ./internal/protogen -root . sluice/v1/sluice.proto
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugin is a protoc plugin, run from the module cache.
type plugin struct {
	path      string // import path of its main package
	parameter string // as after --go_out= of protoc
}

func plugins() []plugin {
	return []plugin{
		{"google.golang.org/protobuf/cmd/protoc-gen-go", "paths=source_relative"},
		// simple: handlers take and return messages, not wrappers of them.
		{"connectrpc.com/connect/cmd/protoc-gen-connect-go", "paths=source_relative,simple=true"},
	}
}

func main() {
	root := flag.String("root", ".", "directory that the proto files are named from, and written below")
	flag.Parse()
	if err := generate(context.Background(), *root, flag.Args()); err != nil {
		slog.Error("generate protobuf code", "error", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, root string, files []string) error {
	set, err := compile(ctx, root, files)
	if err != nil {
		return err
	}
	for _, p := range plugins() {
		if err := p.run(ctx, root, files, set); err != nil {
			return fmt.Errorf("run %s: %w", p.path, err)
		}
	}
	return nil
}

// compile returns the files and everything they import, imports first, which is
// the order that plugins ask for.
func compile(ctx context.Context, root string, files []string) ([]*descriptorpb.FileDescriptorProto, error) {
	c := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments
	}
	compiled, err := c.Compile(ctx, files...)
	if err != nil {
		return nil, err
	}
	var set []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set = append(set, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range compiled {
		add(f)
	}
	return set, nil
}

func (p plugin) run(ctx context.Context, root string, files []string, set []*descriptorpb.FileDescriptorProto) error {
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      &p.parameter,
		ProtoFile:      set,
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", p.path)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(request), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, f := range response.File {
		path := filepath.Join(root, filepath.FromSlash(f.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
