// Package yamlfile reads YAML files strictly and says where they are wrong:
// every error names file, line and field, and all of them are told at once.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize of a file, in bytes.
const MaxSize = 1 << 20

// File is a decoded file whose values are being checked.
type File struct {
	name     string
	tree     *ast.File
	problems []error
}

// Decode reads one document into v. Unknown fields are errors.
func Decode(name string, data []byte, v any) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes; at most %d", name, len(data), MaxSize)
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, located(name, err)
	}
	if len(tree.Docs) > 1 {
		return nil, fmt.Errorf("%s: more than one YAML document", name)
	}
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, located(name, err)
	}
	return &File{name: name, tree: tree}, nil
}

// located puts the file's name before a decoder's error, which brings its own
// line.
func located(name string, err error) error {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
		return fmt.Errorf("%s:%d: %s", name, syntax.GetToken().Position.Line, syntax.GetMessage())
	}
	return fmt.Errorf("%s: %s", name, strings.TrimSpace(err.Error()))
}

// Problem notes that the value of a field (as in "ports[0].mac") is wrong.
func (f *File) Problem(field, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if line := f.line(field); line > 0 {
		f.problems = append(f.problems, fmt.Errorf("%s:%d: %s: %s", f.name, line, field, message))
		return
	}
	f.problems = append(f.problems, fmt.Errorf("%s: %s: %s", f.name, field, message))
}

// Err is all that is wrong, or nil.
func (f *File) Err() error { return errors.Join(f.problems...) }

// line of a field, or of the nearest one around it that is in the file.
func (f *File) line(field string) int {
	for field != "" {
		if path, err := yaml.PathString("$." + field); err == nil {
			if node, err := path.FilterFile(f.tree); err == nil && node != nil && node.GetToken() != nil {
				return node.GetToken().Position.Line
			}
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return 0
}
