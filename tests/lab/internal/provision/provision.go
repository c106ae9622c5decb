// Package provision gives PersistentVolumeClaims their volumes: folders on this
// machine, which all nodes of the lab share. Kubernetes' own host-path
// provisioner makes folders that only root may write to, and the pods that need
// one here do not run as root.
package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"backstop.dev/lab/internal/kube"
)

// Name is the provisioner's, Class that of its StorageClass.
const (
	Name  = "backstop.dev/lab"
	Class = "standard"
)

// Provisioner serves one cluster.
type Provisioner struct {
	API *kube.Client
	// Dir holds a folder per volume.
	Dir string
}

// Claim is what matters of a PersistentVolumeClaim.
type Claim struct {
	Metadata struct {
		Name, Namespace, UID string
		DeletionTimestamp    string
	}
	Spec struct {
		StorageClassName, VolumeName string
		AccessModes                  []string
		Resources                    struct{ Requests map[string]string }
	}
}

// Volume is what matters of a PersistentVolume.
type Volume struct {
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Status struct{ Phase string }
}

// provisionedBy is how Kubernetes knows whose a volume is.
const provisionedBy = "pv.kubernetes.io/provisioned-by"

// Run looks for work until the context ends. It asks instead of watching: the
// cluster is small, and a test that waits for a volume can wait half a second.
func (p Provisioner) Run(ctx context.Context) error {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	last := ""
	for {
		// The API server may be away, or a test may have stopped it.
		if err := p.step(ctx); err != nil && err.Error() != last {
			log.Print(err)
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (p Provisioner) step(ctx context.Context) error {
	var claims struct{ Items []Claim }
	if err := p.API.Get(ctx, "/api/v1/persistentvolumeclaims", &claims); err != nil {
		return err
	}
	var volumes struct{ Items []Volume }
	if err := p.API.Get(ctx, "/api/v1/persistentvolumes", &volumes); err != nil {
		return err
	}
	wanted, released := plan(claims.Items, volumes.Items)
	for _, claim := range wanted {
		if err := p.provide(ctx, claim); err != nil {
			return err
		}
	}
	for _, name := range released {
		if err := p.API.Delete(ctx, "/api/v1/persistentvolumes/"+name); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(p.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// plan returns the claims that need a volume, and the names of the volumes that
// nobody needs any more.
func plan(claims []Claim, volumes []Volume) (wanted []Claim, released []string) {
	exists := map[string]bool{}
	for _, volume := range volumes {
		exists[volume.Metadata.Name] = true
		if volume.Metadata.Annotations[provisionedBy] == Name && volume.Status.Phase == "Released" {
			released = append(released, volume.Metadata.Name)
		}
	}
	for _, claim := range claims {
		ours := claim.Spec.StorageClassName == Class && claim.Spec.VolumeName == "" && claim.Metadata.DeletionTimestamp == ""
		if ours && !exists[volumeName(claim)] {
			wanted = append(wanted, claim)
		}
	}
	return wanted, released
}

// volumeName is a function of the claim, so that a claim gets one volume even if
// the answer to the first request was lost.
func volumeName(claim Claim) string { return "pvc-" + claim.Metadata.UID }

func (p Provisioner) provide(ctx context.Context, claim Claim) error {
	dir := filepath.Join(p.Dir, volumeName(claim))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	// Whatever user the pod runs as; the umask took that away.
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	object, err := json.Marshal(volumeFor(claim, dir))
	if err != nil {
		return err
	}
	if err := p.API.Create(ctx, "/api/v1/persistentvolumes", object); err != nil {
		return fmt.Errorf("cannot make a volume for the claim %s/%s: %w", claim.Metadata.Namespace, claim.Metadata.Name, err)
	}
	return nil
}

// volumeFor returns the PersistentVolume for a claim.
func volumeFor(claim Claim, dir string) map[string]any {
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "PersistentVolume",
		"metadata": map[string]any{
			"name":        volumeName(claim),
			"annotations": map[string]string{provisionedBy: Name},
		},
		"spec": map[string]any{
			"storageClassName":              Class,
			"persistentVolumeReclaimPolicy": "Delete",
			"capacity":                      map[string]string{"storage": claim.Spec.Resources.Requests["storage"]},
			"accessModes":                   claim.Spec.AccessModes,
			"hostPath":                      map[string]string{"path": dir, "type": "Directory"},
			"claimRef": map[string]string{
				"apiVersion": "v1", "kind": "PersistentVolumeClaim",
				"namespace": claim.Metadata.Namespace, "name": claim.Metadata.Name, "uid": claim.Metadata.UID,
			},
		},
	}
}
