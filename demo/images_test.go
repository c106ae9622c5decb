package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAnImageIsSplitAtItsTag(t *testing.T) {
	for image, want := range map[string][]string{
		chartImage:                       {"--set-string=image.repository=backstop.local/backstop", "--set-string=image.tag=dev"},
		"registry.example.com:5000/b:v1": {"--set-string=image.repository=registry.example.com:5000/b", "--set-string=image.tag=v1"},
		"b:1":                            {"--set-string=image.repository=b", "--set-string=image.tag=1"},
	} {
		if got, err := imageValues(image); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", image, got, err)
		}
	}
	for _, image := range []string{"", "b", "b:", ":1", "registry:5000/b", "b:1@sha256:00", "b:1,c"} {
		if got, err := imageValues(image); err == nil {
			t.Errorf("%q was taken for %v", image, got)
		}
	}
}

// Every manifest that the demo applies has to be found by the substitution.
func TestEveryManifestRunsTheImageThatWasNamed(t *testing.T) {
	files, err := filepath.Glob("shop/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := filepath.Glob("shop/cases/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lie, err := filepath.Glob("lie/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	images := (&demo{options: options{shopImage: "registry.example.com/shop:7", modelsImage: "registry.example.com/shop:7", naiveImage: "registry.example.com/shop:7"}}).manifestImages()
	found := 0
	for _, file := range slices.Concat(files, cases, lie, []string{"customer.yaml"}) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := moved(string(text), "elsewhere", images)
		if strings.Contains(got, "backstop.local") || strings.Contains(got, "namespace: shop\n") {
			t.Errorf("%s: not everything was replaced", file)
		}
		found += strings.Count(got, "image: registry.example.com/shop:7\n")
	}
	if found < 8 {
		t.Errorf("only %d images were found", found)
	}
}
