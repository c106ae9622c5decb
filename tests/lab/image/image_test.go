package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is a dynamically linked program that every Debian has.
const program = "/bin/ls"

func build(t *testing.T, spec Spec) *Image {
	t.Helper()
	img, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(content), 0o755)
}

// entries reads the headers of the image's only layer.
func entries(t *testing.T, img *Image) map[string]*tar.Header {
	t.Helper()
	layers, err := img.V1().Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("want one layer, got %d (%v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	found := map[string]*tar.Header{}
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found["/"+strings.TrimSuffix(header.Name, "/")] = header
	}
}

func TestAProgramBringsItsLibrariesAndItsInterpreter(t *testing.T) {
	found := entries(t, build(t, Spec{Ref: "backstop.local/ls:dev", Path: program}))
	object, err := readObject(program)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"/ls", object.interpreter, "/etc/passwd", "/tmp"}
	for name := range found {
		names = append(names, filepath.Base(name))
	}
	for _, want := range names[:4] {
		if found[want] == nil {
			t.Errorf("%s is missing from the image", want)
		}
	}
	for _, want := range object.needed {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing from the image", want)
		}
	}
	if found["/tmp"] != nil && found["/tmp"].Mode != 0o1777 {
		t.Errorf("/tmp has mode %o, want 1777: programs run as %s", found["/tmp"].Mode, NonRoot)
	}
}

func TestTheProgramRunsWithNothingButTheImage(t *testing.T) {
	root := t.TempDir()
	libraries, err := Libraries(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range libraries {
		// Each dependency of each dependency has to be in the closure, too.
		object, err := readObject(library.Source)
		if err != nil {
			t.Fatal(err)
		}
		copyFile(t, library.Source, filepath.Join(root, library.Target))
		for _, needed := range object.needed {
			if !slices.ContainsFunc(libraries, func(l Library) bool { return filepath.Base(l.Target) == needed }) {
				t.Errorf("%s needs %s, which is not in the image", library.Name, needed)
			}
		}
	}
	// The copied root alone resolves the program again.
	again, err := resolver{root: root}.libraries(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(again) != len(libraries) {
		t.Errorf("resolved %d libraries inside the image, %d outside", len(again), len(libraries))
	}
}

func TestLibrariesAreFoundThroughLdSoConf(t *testing.T) {
	root := t.TempDir()
	libraries, err := Libraries(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range libraries {
		target := library.Target
		if library.Name != "libc.so.6" && strings.HasPrefix(library.Name, "lib") {
			target = filepath.Join("/opt/vendor/lib", library.Name)
		}
		copyFile(t, library.Source, filepath.Join(root, target))
	}
	write(t, filepath.Join(root, "etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n", 0o644)
	write(t, filepath.Join(root, "etc/ld.so.conf.d/vendor.conf"), "# vendor libraries\n/opt/vendor/lib\n", 0o644)
	again, err := resolver{root: root}.libraries(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range again {
		if strings.HasPrefix(library.Target, "/opt/") {
			t.Errorf("%s is put at %s, where a loader without ld.so.cache does not look", library.Name, library.Target)
		}
	}
}

func TestAMissingLibraryIsNamed(t *testing.T) {
	_, err := resolver{root: t.TempDir()}.libraries(program)
	if err == nil || !strings.Contains(err.Error(), "needs lib") || !strings.Contains(err.Error(), "install the package") {
		t.Fatalf("want an error that names the library, got %v", err)
	}
}

func TestAStaticProgramNeedsNothing(t *testing.T) {
	libraries, err := Libraries(staticProgram(t))
	if err != nil || len(libraries) != 0 {
		t.Fatalf("want no libraries, got %v (%v)", libraries, err)
	}
}

// staticProgram is an ELF file without interpreter and dynamic section: the
// header of a real program with its program and section tables cut off.
func staticProgram(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	header := content[:64]
	for i := 32; i < 48; i++ { // e_phoff, e_shoff
		header[i] = 0
	}
	for i := 56; i < 64; i++ { // e_phnum, e_shentsize, e_shnum, e_shstrndx
		header[i] = 0
	}
	file := filepath.Join(t.TempDir(), "static")
	write(t, file, string(header), 0o755)
	return file
}

func TestTheDigestDependsOnContentAlone(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, folder := range []string{first, second} {
		copyFile(t, staticProgram(t), filepath.Join(folder, "bin/app"))
		write(t, filepath.Join(folder, "share/data.txt"), "data", 0o640)
		if err := os.Symlink("app", filepath.Join(folder, "bin/alias")); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(second, "share/data.txt"), "data", 0o600)
	if err := os.Chtimes(filepath.Join(second, "bin/app"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}

	spec := Spec{Ref: "backstop.local/app:dev", Entrypoint: []string{"/bin/app"}, Labels: map[string]string{"b": "2", "a": "1"}}
	digest := func(folder string) string {
		spec.Path = folder
		digest, err := build(t, spec).Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	before := digest(first)
	if again := digest(second); again != before {
		t.Errorf("same content, other times and modes: digest %s became %s", before, again)
	}
	write(t, filepath.Join(second, "share/data.txt"), "other", 0o644)
	if changed := digest(second); changed == before {
		t.Error("other content, same digest")
	}
}

func TestTheConfigurationIsFitForRestrictedPods(t *testing.T) {
	config, err := build(t, Spec{Ref: "backstop.local/ls:dev", Path: program, Labels: map[string]string{"backstop.dev/part": "test"}}).V1().ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" {
		t.Errorf("user %q: runAsNonRoot needs a numeric user", config.Config.User)
	}
	if !slices.Equal(config.Config.Entrypoint, []string{"/ls"}) {
		t.Errorf("entrypoint %v", config.Config.Entrypoint)
	}
	if config.Config.Labels["backstop.dev/part"] != "test" || config.OS != "linux" || config.Architecture == "" {
		t.Errorf("incomplete configuration: %+v", config)
	}
}

func TestTheArchiveIsAnOCILayoutAndADockerArchive(t *testing.T) {
	img := build(t, Spec{Ref: "backstop.local/ls:dev", Path: program})
	file := filepath.Join(t.TempDir(), "out", "ls.tar")
	if err := img.WriteArchiveFile(file); err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}

	folder := t.TempDir()
	unpack(t, file, folder)
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("as OCI layout: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest.Manifests[0]; got.Digest.String() != want ||
		got.Annotations["io.containerd.image.name"] != "backstop.local/ls:dev" ||
		got.Annotations["org.opencontainers.image.ref.name"] != "dev" {
		t.Errorf("index entry %+v", got)
	}

	docker, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(docker); err != nil {
		t.Errorf("as docker archive: %v", err)
	}
	inDocker, err := docker.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if inOCI, err := img.V1().ConfigName(); err != nil || inDocker != inOCI {
		t.Errorf("image id %s in the docker archive, %s in the OCI layout (%v)", inDocker, inOCI, err)
	}

	var first, second bytes.Buffer
	if err := img.WriteArchive(&first); err != nil {
		t.Fatal(err)
	}
	if err := img.WriteArchive(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("two archives of one image differ (%v)", err)
	}
	if leftovers, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(leftovers) != 0 {
		t.Errorf("temporary files left: %v", leftovers)
	}
}

func unpack(t *testing.T, archive, folder string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, header.Name), string(content), 0o644)
	}
}

func TestFurtherFilesAreAdded(t *testing.T) {
	source := filepath.Join(t.TempDir(), "default.tmpl")
	write(t, source, "template", 0o600)
	found := entries(t, build(t, Spec{Ref: "backstop.local/ls:dev", Path: program, Files: map[string]string{"/usr/share/ls/default.tmpl": source}}))
	if file := found["/usr/share/ls/default.tmpl"]; file == nil || file.Mode != 0o644 || file.Size != 8 {
		t.Errorf("want a readable file of 8 bytes, got %+v", file)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	script := filepath.Join(t.TempDir(), "run.sh")
	write(t, script, "#!/bin/sh\n", 0o755)
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"a name without a tag":           {Spec{Ref: "backstop.local/ls", Path: program}, "with a tag"},
		"a short name":                   {Spec{Ref: "ls:dev", Path: program}, "full image name"},
		"a path that is not there":       {Spec{Ref: "backstop.local/ls:dev", Path: "/nowhere/ls"}, "/nowhere/ls"},
		"a script":                       {Spec{Ref: "backstop.local/run:dev", Path: script}, "not a Linux (ELF) program"},
		"a folder without entrypoint":    {Spec{Ref: "backstop.local/run:dev", Path: filepath.Dir(script)}, "give the entrypoint"},
		"a further file that is missing": {Spec{Ref: "backstop.local/ls:dev", Path: program, Files: map[string]string{"/a": "/nowhere/a"}}, "/nowhere/a"},
		"an entrypoint that is missing":  {Spec{Ref: "backstop.local/run:dev", Path: filepath.Dir(script), Entrypoint: []string{"/app"}}, "not a file of the folder"},
	} {
		if _, err := Build(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", name, c.want, err)
		}
	}
}
