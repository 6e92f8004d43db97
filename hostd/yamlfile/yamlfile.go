// Package yamlfile reads YAML files strictly and says where they are wrong:
// every error names file, line and field, and all of them are told at once.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSize of a file, in bytes, and how deep its lists and mappings may nest:
// the parser's memory grows with the square of the depth.
const (
	MaxSize  = 1 << 20
	maxDepth = 32
)

// File is a decoded file whose values are being checked.
type File struct {
	name     string
	tree     *ast.File
	problems []error
}

// Decode reads one document into v, a pointer to a struct that holds the
// defaults: what the file does not give keeps its value. Unknown fields,
// anchors, aliases and tags are errors.
func Decode(name string, data []byte, v any) (f *File, err error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes; at most %d", name, len(data), MaxSize)
	}
	if line := tooDeep(data); line > 0 {
		return nil, fmt.Errorf("%s:%d: nested deeper than %d", name, line, maxDepth)
	}
	defer func() { // the parser has panicked on some input
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("%s: cannot be read as YAML: %v", name, r)
		}
	}()
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, located(name, err)
	}
	if len(tree.Docs) > 1 {
		return nil, fmt.Errorf("%s: more than one YAML document", name)
	}
	f = &File{name: name, tree: tree}
	if len(tree.Docs) == 1 {
		f.decode(tree.Docs[0].Body, v)
	}
	return f, f.Err()
}

// tooDeep returns the first line at which brackets, or dashes on one line,
// nest too deep. Brackets inside texts count too, which only makes it stricter.
func tooDeep(data []byte) int {
	brackets, line := 0, 0
	for text := range bytes.Lines(data) {
		line++
		brackets = max(0, brackets)
		for _, c := range text {
			switch c {
			case '[', '{':
				brackets++
			case ']', '}':
				brackets--
			}
			if brackets > maxDepth {
				return line
			}
		}
		if bytes.Count(text, []byte("- ")) > maxDepth {
			return line
		}
	}
	return 0
}

// located puts the file's name before a parser's error, which brings its own
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
	f.problem(f.line(field), field, fmt.Sprintf(format, args...))
}

func (f *File) problem(line int, field, message string) {
	where := f.name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", f.name, line)
	}
	if field != "" {
		where += ": " + field
	}
	f.problems = append(f.problems, fmt.Errorf("%s: %s", where, message))
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
