package main

import (
	"fmt"
	"strings"
)

// Names of the images as the manifests and the chart have them.
const (
	chartImage    = "backstop.local/backstop:dev"
	manifestImage = "backstop.local/shop:dev"
)

// splitImage separates an image's name from its tag, as the chart wants them.
func splitImage(image string) (repository, tag string, err error) {
	colon := strings.LastIndexByte(image, ':')
	// A colon before the last slash belongs to a port.
	if colon <= 0 || colon == len(image)-1 || colon < strings.LastIndexByte(image, '/') || strings.ContainsAny(image, "@ ,\t\n") {
		return "", "", fmt.Errorf("image %q: want a name with a tag, such as registry.example.com/backstop:0.1.0", image)
	}
	return image[:colon], image[colon+1:], nil
}

// imageValues are the arguments that tell Helm which image to run.
func imageValues(image string) ([]string, error) {
	repository, tag, err := splitImage(image)
	if err != nil {
		return nil, err
	}
	return []string{"--set-string=image.repository=" + repository, "--set-string=image.tag=" + tag}, nil
}

// manifestImages are the names that the manifests have, each with what it is replaced by.
func (d *demo) manifestImages() map[string]string {
	return map[string]string{
		manifestImage: d.shopImage, "backstop.local/models:dev": d.modelsImage, "backstop.local/naive:dev": d.naiveImage,
	}
}

// moved is a manifest that was written for the namespace shop and the images
// backstop.local/…:dev, for another namespace and other images.
func moved(text, namespace string, images map[string]string) string {
	text = strings.ReplaceAll(text, "namespace: shop\n", "namespace: "+namespace+"\n")
	for from, to := range images {
		text = strings.ReplaceAll(text, "image: "+from+"\n", "image: "+to+"\n")
	}
	return text
}
