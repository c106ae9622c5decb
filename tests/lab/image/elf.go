package image

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// Library is a shared object that a program needs at run time.
type Library struct {
	// Name is what the program asks for: a soname such as libc.so.6, or for
	// the program interpreter its absolute path.
	Name string
	// Source is the file on this machine.
	Source string
	// Target is the absolute path at which the loader in the image finds it.
	Target string
}

// Libraries returns every shared object that the program needs, its
// interpreter included, sorted by target; none for a static program.
//
// The dependencies are read from the ELF headers (DT_NEEDED, recursively) and
// looked up the way the dynamic loader does. The program is never executed, as
// ldd would, so it may be built for another architecture or not be trusted.
func Libraries(program string) ([]Library, error) {
	return resolver{root: "/"}.libraries(program)
}

// resolver looks libraries up under root, which tests replace.
type resolver struct{ root string }

// object is what the dynamic loader would read from one ELF file.
type object struct {
	machine     elf.Machine
	class       elf.Class
	interpreter string
	needed      []string
	searchPath  []string // DT_RPATH and DT_RUNPATH, $ORIGIN expanded
}

func (r resolver) libraries(program string) ([]Library, error) {
	main, err := readObject(program)
	if err != nil {
		return nil, err
	}
	if main.interpreter == "" {
		return nil, nil
	}

	found := map[string]Library{}
	queue := []object{main}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, name := range next.needed {
			if _, ok := found[name]; ok {
				continue
			}
			source, dep, err := r.find(name, main, next.searchPath)
			if err != nil {
				return nil, fmt.Errorf("image: %s: %w", program, err)
			}
			found[name] = Library{Name: name, Source: source}
			queue = append(queue, dep)
		}
	}

	// All libraries go where the C library is: a directory that its loader
	// searches without configuration, so the image needs no ld.so.cache.
	dir := ""
	if c, ok := found["libc.so.6"]; ok {
		dir = r.inside(filepath.Dir(c.Source))
	}
	libraries := []Library{{
		Name:   main.interpreter,
		Source: filepath.Join(r.root, main.interpreter),
		Target: path.Clean(main.interpreter),
	}}
	if _, err := os.Stat(libraries[0].Source); err != nil {
		return nil, fmt.Errorf("image: %s: program interpreter %s not found: install the C library for %s", program, main.interpreter, main.machine)
	}
	for name, library := range found {
		targetDir := dir
		if targetDir == "" {
			targetDir = r.inside(filepath.Dir(library.Source))
		}
		library.Target = path.Join(targetDir, name)
		if path.Base(main.interpreter) == name {
			continue // ld-linux is listed as a dependency of libc, too
		}
		libraries = append(libraries, library)
	}
	sort.Slice(libraries, func(i, j int) bool { return libraries[i].Target < libraries[j].Target })
	return libraries, nil
}

// find returns the first library of that name that fits the program, in the
// loader's order: the requesting object's own search path, the directories of
// ld.so.conf (which is what ld.so.cache indexes), then the default ones.
func (r resolver) find(name string, program object, searchPath []string) (string, object, error) {
	dirs := make([]string, 0, 16)
	dirs = append(dirs, searchPath...)
	for _, dir := range append(r.configuredDirs(), defaultDirs(program)...) {
		dirs = append(dirs, filepath.Join(r.root, dir))
	}
	for _, dir := range dirs {
		candidate := filepath.Join(dir, name)
		dep, err := readObject(candidate)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		// The same soname may exist for several architectures: a mismatch is
		// skipped as the loader does.
		if err != nil || dep.machine != program.machine || dep.class != program.class {
			continue
		}
		return candidate, dep, nil
	}
	return "", object{}, fmt.Errorf("needs %s (%s), which is in none of %s: install the package that provides it", name, program.machine, strings.Join(dirs, ", "))
}

// inside turns a path on this machine into a path in the image.
func (r resolver) inside(p string) string {
	return "/" + strings.TrimPrefix(strings.TrimPrefix(p, filepath.Clean(r.root)), "/")
}

// configuredDirs reads /etc/ld.so.conf and the files it includes.
func (r resolver) configuredDirs() []string {
	var dirs []string
	var read func(file string, depth int)
	read = func(file string, depth int) {
		f, err := os.Open(filepath.Join(r.root, file))
		if err != nil || depth > 4 {
			return // no configuration is a valid configuration
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			line, _, _ := strings.Cut(lines.Text(), "#")
			line = strings.TrimSpace(line)
			if pattern, ok := strings.CutPrefix(line, "include "); ok {
				pattern = strings.TrimSpace(pattern)
				if !path.IsAbs(pattern) {
					pattern = path.Join(path.Dir(file), pattern)
				}
				matches, _ := filepath.Glob(filepath.Join(r.root, pattern)) // sorted
				for _, match := range matches {
					read(r.inside(match), depth+1)
				}
			} else if path.IsAbs(line) {
				dirs = append(dirs, line)
			}
		}
	}
	read("/etc/ld.so.conf", 0)
	return dirs
}

// defaultDirs are the directories that loaders search without configuration:
// Debian's multiarch ones first, then those of other distributions.
func defaultDirs(program object) []string {
	var dirs []string
	triplets := map[elf.Machine]string{
		elf.EM_X86_64:  "x86_64-linux-gnu",
		elf.EM_AARCH64: "aarch64-linux-gnu",
	}
	if triplet, ok := triplets[program.machine]; ok {
		dirs = append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet)
	}
	if program.class == elf.ELFCLASS64 {
		dirs = append(dirs, "/lib64", "/usr/lib64")
	}
	return append(dirs, "/lib", "/usr/lib")
}

func readObject(file string) (object, error) {
	f, err := elf.Open(file)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return object{}, fmt.Errorf("image: %s is not a Linux (ELF) program: %w", file, err)
		}
		return object{}, err
	}
	defer f.Close()

	o := object{machine: f.Machine, class: f.Class}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return object{}, fmt.Errorf("image: %s: unreadable program interpreter: %w", file, err)
		}
		o.interpreter = strings.TrimRight(string(b), "\x00")
	}
	if o.needed, err = f.ImportedLibraries(); err != nil {
		return object{}, fmt.Errorf("image: %s: unreadable dynamic section: %w", file, err)
	}
	origin, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return object{}, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			continue // no dynamic section: nothing to search
		}
		for _, value := range values {
			for _, dir := range strings.Split(value, ":") {
				dir = strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir)
				if path.IsAbs(dir) {
					o.searchPath = append(o.searchPath, dir)
				}
			}
		}
	}
	return o, nil
}

// architecture is the GOARCH name that image configurations use.
func architecture(file string) (string, error) {
	o, err := readObject(file)
	if err != nil {
		return "", err
	}
	switch o.machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("image: %s is built for %s; images are made for x86-64 and arm64", file, o.machine)
	}
}
