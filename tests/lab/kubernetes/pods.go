package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	criclient "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// removePods removes every pod of a container runtime, given its endpoint: it
// is how a node is emptied when no kubelet runs any more. The runtime takes the
// pod's network, mounts and addresses back, which killing processes would not.
func removePods(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "remove-pods: expected one argument, the endpoint, such as unix:///run/containerd/containerd.sock")
		return 2
	}
	logger := klog.Background()
	runtime, err := criclient.NewRemoteRuntimeService(args[0], 20*time.Second, nil, &logger)
	if err != nil {
		fmt.Fprintln(os.Stderr, "remove-pods:", err)
		return 1
	}
	ctx := context.Background()
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "remove-pods:", err)
		return 1
	}
	var group sync.WaitGroup
	failed := make([]error, len(sandboxes))
	// A few at a time: each waits for several short-lived programs.
	slots := make(chan struct{}, 8)
	for i, sandbox := range sandboxes {
		group.Add(1)
		go func() {
			defer group.Done()
			slots <- struct{}{}
			failed[i] = removePod(ctx, runtime, sandbox)
			<-slots
		}()
	}
	group.Wait()
	code := 0
	for _, err := range failed {
		if err != nil {
			fmt.Fprintln(os.Stderr, "remove-pods:", err)
			code = 1
		}
	}
	return code
}

type sandboxRemover interface {
	StopPodSandbox(ctx context.Context, id string) error
	RemovePodSandbox(ctx context.Context, id string) error
}

func removePod(ctx context.Context, runtime sandboxRemover, sandbox *runtimeapi.PodSandbox) error {
	if err := runtime.StopPodSandbox(ctx, sandbox.Id); err != nil {
		return fmt.Errorf("cannot stop pod %s: %w", sandbox.GetMetadata().GetName(), err)
	}
	if err := runtime.RemovePodSandbox(ctx, sandbox.Id); err != nil {
		return fmt.Errorf("cannot remove pod %s: %w", sandbox.GetMetadata().GetName(), err)
	}
	return nil
}
