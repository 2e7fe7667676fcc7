package kubetest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
)

// fakeAnnotation marks the nodes that kwok may touch.
const fakeAnnotation = "sluice.dev/simulated"

// stages tell kwok what becomes of nodes and pods.
//
//go:embed stages.yaml
var stages []byte

// startFakeNodes makes the nodes and has kwok simulate them.
func (c *Cluster) startFakeNodes(ctx context.Context) error {
	file, err := c.InsideKubeconfigFor("kwok", "system:masters")
	if err != nil {
		return err
	}
	config := c.path("stages.yaml")
	if err := os.WriteFile(config, stages, 0o644); err != nil {
		return err
	}
	kwok, err := c.start("kwok",
		"--kubeconfig", file, "--config", config,
		"--manage-all-nodes=false", "--manage-nodes-with-annotation-selector", fakeAnnotation+"=true",
		"--node-lease-duration-seconds", "40",
	)
	if err != nil {
		return err
	}
	for i := range c.o.FakeNodes {
		if err := c.create(ctx, "/api/v1/nodes", fakeNode(fmt.Sprintf("%s-fake-%d", c.o.Name, i))); err != nil {
			return err
		}
	}
	return kwok.wait(ctx, func(ctx context.Context) error {
		for i := range c.o.FakeNodes {
			if err := c.nodeReady(ctx, fmt.Sprintf("%s-fake-%d", c.o.Name, i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func fakeNode(name string) any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{
			"name":        name,
			"annotations": map[string]string{fakeAnnotation: "true"},
			"labels":      map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
		},
		"status": map[string]any{
			"capacity":    map[string]string{"cpu": "32", "memory": "64Gi", "pods": "1000"},
			"allocatable": map[string]string{"cpu": "32", "memory": "64Gi", "pods": "1000"},
		},
	}
}

// nodeReady returns an error unless the node says that it is ready.
func (c *Cluster) nodeReady(ctx context.Context, name string) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := c.get(ctx, c.InsideURL()+"/api/v1/nodes/"+name, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" {
			if condition.Status == "True" {
				return nil
			}
			return fmt.Errorf("node %s is not ready: %s", name, condition.Message)
		}
	}
	return errors.New("node " + name + " has not said anything yet")
}
