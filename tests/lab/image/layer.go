package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// epoch is the one timestamp in an image: equal content must give an equal
// digest, whenever and wherever it is built.
var epoch = time.Unix(0, 0).UTC()

// tree is the root filesystem of an image: absolute, cleaned path to entry.
type tree map[string]entry

// entry is a directory, a regular file (from content or from a source file) or
// a symbolic link. Everything belongs to root; the program runs as another
// user and cannot change its own image.
type entry struct {
	mode    fs.FileMode
	content []byte
	source  string
	link    string
}

func (t tree) addFile(target string, mode fs.FileMode, content string) {
	t[path.Clean("/"+target)] = entry{mode: mode, content: []byte(content)}
}

func (t tree) addSource(target, source string, mode fs.FileMode) {
	t[path.Clean("/"+target)] = entry{mode: mode, source: source}
}

func (t tree) addDir(target string, mode fs.FileMode) {
	t[path.Clean("/"+target)] = entry{mode: mode | fs.ModeDir}
}

// addFolder copies a directory of this machine to the root of the image. Modes
// are reduced to readable and executable, so that the builder's umask does not
// change the digest.
func (t tree) addFolder(folder string) error {
	return filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, file)
		if err != nil || relative == "." {
			return err
		}
		target := path.Clean("/" + filepath.ToSlash(relative))
		switch {
		case d.IsDir():
			t.addDir(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(file)
			if err != nil {
				return err
			}
			t[target] = entry{mode: 0o777 | fs.ModeSymlink, link: link}
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if info.Mode()&0o111 != 0 {
				mode = 0o755
			}
			t.addSource(target, file, mode)
		default:
			return fmt.Errorf("image: %s is neither a file, a directory nor a symbolic link: remove it from the folder", file)
		}
		return nil
	})
}

// tarball writes the tree, parents before children, in sorted order.
func (t tree) tarball() ([]byte, error) {
	for target := range t {
		for dir := path.Dir(target); dir != "/"; dir = path.Dir(dir) {
			if _, ok := t[dir]; !ok {
				t.addDir(dir, 0o755)
			}
		}
	}
	targets := make([]string, 0, len(t))
	for target := range t {
		targets = append(targets, target)
	}
	sort.Strings(targets)

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, target := range targets {
		if err := t[target].write(w, strings.TrimPrefix(target, "/")); err != nil {
			return nil, fmt.Errorf("image: cannot add %s: %w", target, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (e entry) write(w *tar.Writer, name string) error {
	header := &tar.Header{Name: name, Mode: int64(e.mode.Perm()), ModTime: epoch}
	if e.mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(header)
	case e.mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		return w.WriteHeader(header)
	case e.source == "":
		header.Typeflag, header.Size = tar.TypeReg, int64(len(e.content))
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err := w.Write(e.content)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
