package image

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// dockerManifest is one element of the manifest.json of `docker save`.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteArchive writes the image as one tar file that `ctr images import`,
// `kind load image-archive`, `podman load` and `docker load` all accept: an
// OCI image layout whose index names the image by annotation, plus Docker's
// manifest.json pointing at the same blobs (`docker save` since 25 does the
// same).
func (i *Image) WriteArchive(w io.Writer) error {
	archive := &archiveWriter{tar: tar.NewWriter(w)}
	if err := i.writeTo(archive); err != nil {
		return fmt.Errorf("image: %s: cannot write the archive: %w", i.Ref(), err)
	}
	if err := archive.tar.Close(); err != nil {
		return fmt.Errorf("image: %s: cannot write the archive: %w", i.Ref(), err)
	}
	return nil
}

// WriteArchiveFile writes the archive to a file, which appears only when it is
// complete.
func (i *Image) WriteArchiveFile(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	defer temporary.Close()
	if err := i.WriteArchive(temporary); err != nil {
		return err
	}
	if err := temporary.Chmod(0o644); err != nil {
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}

func (i *Image) writeTo(archive *archiveWriter) error {
	config, err := i.v1.RawConfigFile()
	if err != nil {
		return err
	}
	configDigest, err := i.v1.ConfigName()
	if err != nil {
		return err
	}
	manifest, err := i.v1.RawManifest()
	if err != nil {
		return err
	}
	digest, err := i.v1.Digest()
	if err != nil {
		return err
	}
	layers, err := i.v1.Layers()
	if err != nil {
		return err
	}

	docker := dockerManifest{Config: blobPath(configDigest), RepoTags: []string{i.Ref()}}
	index := v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1,
			Size:      int64(len(manifest)),
			Digest:    digest,
			Annotations: map[string]string{
				// containerd takes the name from the first, everybody else
				// the tag from the second.
				"io.containerd.image.name":          i.Ref(),
				"org.opencontainers.image.ref.name": i.ref.TagStr(),
			},
		}},
	}

	archive.json("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"})
	archive.bytes(blobPath(configDigest), config)
	for _, layer := range layers {
		layerDigest, err := layer.Digest()
		if err != nil {
			return err
		}
		content, err := layer.Compressed()
		if err != nil {
			return err
		}
		size, err := layer.Size()
		if err != nil {
			return err
		}
		archive.stream(blobPath(layerDigest), content, size)
		if err := content.Close(); err != nil {
			return err
		}
		docker.Layers = append(docker.Layers, blobPath(layerDigest))
	}
	archive.bytes(blobPath(digest), manifest)
	archive.json("index.json", index)
	archive.json("manifest.json", []dockerManifest{docker})
	return archive.err
}

func blobPath(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// archiveWriter keeps the first error, so that the layout above reads as a
// list of its parts.
type archiveWriter struct {
	tar *tar.Writer
	err error
}

func (a *archiveWriter) json(name string, value any) {
	content, err := json.Marshal(value)
	if a.err == nil {
		a.err = err
	}
	a.bytes(name, content)
}

func (a *archiveWriter) bytes(name string, content []byte) {
	a.header(name, int64(len(content)))
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

func (a *archiveWriter) stream(name string, content io.Reader, size int64) {
	a.header(name, size)
	if a.err == nil {
		_, a.err = io.Copy(a.tar, content)
	}
}

func (a *archiveWriter) header(name string, size int64) {
	if a.err == nil {
		a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch})
	}
}
