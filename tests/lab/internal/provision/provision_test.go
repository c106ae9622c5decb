package provision

import (
	"slices"
	"testing"
)

func claim(change func(*Claim)) Claim {
	var c Claim
	c.Metadata.Name, c.Metadata.Namespace, c.Metadata.UID = "audit", "backstop-system", "1234"
	c.Spec.StorageClassName = Class
	c.Spec.AccessModes = []string{"ReadWriteOnce"}
	c.Spec.Resources.Requests = map[string]string{"storage": "1Gi"}
	change(&c)
	return c
}

func volume(name, by, phase string) Volume {
	var v Volume
	v.Metadata.Name, v.Status.Phase = name, phase
	v.Metadata.Annotations = map[string]string{provisionedBy: by}
	return v
}

func TestAClaimOfOurClassGetsOneVolume(t *testing.T) {
	for name, test := range map[string]struct {
		claim   Claim
		volumes []Volume
		want    bool
	}{
		"new":                    {claim(func(*Claim) {}), nil, true},
		"its volume is there":    {claim(func(*Claim) {}), []Volume{volume("pvc-1234", Name, "Available")}, false},
		"another's volume is":    {claim(func(*Claim) {}), []Volume{volume("pvc-9", Name, "Bound")}, true},
		"bound":                  {claim(func(c *Claim) { c.Spec.VolumeName = "pvc-1234" }), nil, false},
		"of another class":       {claim(func(c *Claim) { c.Spec.StorageClassName = "fast" }), nil, false},
		"without a class":        {claim(func(c *Claim) { c.Spec.StorageClassName = "" }), nil, false},
		"about to be deleted":    {claim(func(c *Claim) { c.Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z" }), nil, false},
		"names a volume by hand": {claim(func(c *Claim) { c.Spec.VolumeName = "mine" }), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			wanted, _ := plan([]Claim{test.claim}, test.volumes)
			if (len(wanted) == 1) != test.want {
				t.Errorf("got %+v", wanted)
			}
		})
	}
}

func TestOnlyOurReleasedVolumesAreRemoved(t *testing.T) {
	_, released := plan(nil, []Volume{
		volume("pvc-1", Name, "Released"), volume("pvc-2", Name, "Bound"), volume("pvc-3", Name, "Available"),
		volume("pvc-4", "example.com/other", "Released"),
	})
	if !slices.Equal(released, []string{"pvc-1"}) {
		t.Errorf("got %v", released)
	}
}

func TestAVolumeIsBoundToItsClaimAndToNoOtherOfTheSameName(t *testing.T) {
	spec := volumeFor(claim(func(*Claim) {}), "/state/volumes/pvc-1234")["spec"].(map[string]any)
	reference := spec["claimRef"].(map[string]string)
	if reference["uid"] != "1234" || reference["namespace"] != "backstop-system" || reference["name"] != "audit" {
		t.Errorf("got %v", reference)
	}
	if got := spec["capacity"].(map[string]string)["storage"]; got != "1Gi" {
		t.Errorf("the capacity is %q, the claim asked for 1Gi", got)
	}
}
