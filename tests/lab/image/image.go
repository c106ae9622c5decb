// Package image makes container images without Docker and without a registry:
// from one binary and the shared libraries it needs, or from a folder.
//
// An image is a pure function of its inputs (sorted entries, one fixed time), so
// that an unchanged program keeps its digest and need not be imported or rolled
// out again.
package image

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// NonRoot is the user that programs run as unless a Spec says otherwise. It is
// numeric because runAsNonRoot cannot be verified for a name.
const NonRoot = "65532:65532"

// caBundle is where OpenSSL, rustls-native-certs and Go look for trusted
// certificates on Debian.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// Spec says what an image is made of.
type Spec struct {
	// Ref is the full name with its tag, e.g. backstop.local/shop:dev.
	Ref string
	// Path is a program (put at /NAME together with its shared libraries) or a
	// folder (put at /).
	Path string
	// Files are further files to add, from target path to source path.
	Files map[string]string
	// Entrypoint defaults to /NAME for a program and is required for a folder.
	Entrypoint []string
	// User defaults to NonRoot.
	User string
	// Labels are added to the image configuration.
	Labels map[string]string
	// Env is added to the image configuration, as NAME=value.
	Env []string
}

// Image is a finished image, ready to be written.
type Image struct {
	ref name.Tag
	v1  v1.Image
}

// Build makes an image.
func Build(spec Spec) (*Image, error) {
	ref, err := name.NewTag(spec.Ref, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("image: %q is not a full image name with a tag, such as backstop.local/shop:dev: %w", spec.Ref, err)
	}
	info, err := os.Stat(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("image: %s: cannot read what the image is made of: %w", spec.Ref, err)
	}

	root := baseTree()
	entrypoint := spec.Entrypoint
	var arch string
	if info.IsDir() {
		if len(entrypoint) == 0 {
			return nil, fmt.Errorf("image: %s is made from the folder %s: give the entrypoint, which cannot be guessed", spec.Ref, spec.Path)
		}
		if err := root.addFolder(spec.Path); err != nil {
			return nil, err
		}
		if arch, err = root.architectureOf(entrypoint[0]); err != nil {
			return nil, err
		}
	} else {
		target := "/" + filepath.Base(spec.Path)
		if arch, err = architecture(spec.Path); err != nil {
			return nil, err
		}
		if err := root.addProgram(target, spec.Path); err != nil {
			return nil, err
		}
		if len(entrypoint) == 0 {
			entrypoint = []string{target}
		}
	}

	for target, source := range spec.Files {
		if info, err := os.Stat(source); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("image: %s: %s, to be put at %s, is not a readable file", spec.Ref, source, target)
		}
		root.addSource(target, source, 0o644)
	}
	content, err := root.tarball()
	if err != nil {
		return nil, err
	}
	// Compressed because not every tool accepts a plain tar as an OCI layer;
	// fast because the image travels no further than to a node.
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("image: %s: cannot make the layer: %w", spec.Ref, err)
	}
	user := spec.User
	if user == "" {
		user = NonRoot
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "backstop lab image"},
	})
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w", spec.Ref, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image: %s: %w", spec.Ref, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: epoch}
	config.Config = v1.Config{
		User:       user,
		Entrypoint: entrypoint,
		WorkingDir: "/",
		Env:        append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/", "SSL_CERT_FILE=" + caBundle}, spec.Env...),
		Labels:     labels(ref, spec.Labels),
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("image: %s: %w", spec.Ref, err)
	}
	return &Image{ref: ref, v1: img}, nil
}

// Ref is the full name of the image with its tag.
func (i *Image) Ref() string { return i.ref.Name() }

// Digest is the digest of the image's manifest.
func (i *Image) Digest() (string, error) {
	digest, err := i.v1.Digest()
	return digest.String(), err
}

// V1 gives access to the image for other writers, such as a test registry.
func (i *Image) V1() v1.Image { return i.v1 }

// baseTree is what every image has: users, a writable /tmp, name resolution
// order and, when this machine has them, trusted certificates.
func baseTree() tree {
	t := tree{}
	t.addFile("/etc/passwd", 0o644, "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
	t.addFile("/etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n")
	t.addFile("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
	t["/tmp"] = entry{mode: 0o777 | os.ModeSticky | os.ModeDir}
	if _, err := os.Stat(caBundle); err == nil {
		t.addSource(caBundle, caBundle, 0o644)
	}
	return t
}

func (t tree) addProgram(target, source string) error {
	libraries, err := Libraries(source)
	if err != nil {
		return err
	}
	t.addSource(target, source, 0o755)
	for _, library := range libraries {
		t.addSource(library.Target, library.Source, 0o755)
	}
	return nil
}

// architectureOf finds out for which architecture the program of a folder is
// built; a script or a missing file is an error better reported now than by
// the kubelet.
func (t tree) architectureOf(program string) (string, error) {
	e, ok := t[path.Clean("/"+program)]
	if !ok || e.source == "" {
		return "", fmt.Errorf("image: the entrypoint %s is not a file of the folder", program)
	}
	return architecture(e.source)
}

func labels(ref name.Tag, extra map[string]string) map[string]string {
	all := map[string]string{"org.opencontainers.image.title": path.Base(ref.RepositoryStr())}
	for key, value := range extra {
		all[strings.TrimSpace(key)] = value
	}
	return all
}
