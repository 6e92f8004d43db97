// Package yamlfile reads YAML files strictly and says where they are wrong:
// every error names file, line and field, and all of them are told at once.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

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
	if data, err = plainText(data); err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, located(name, data, err)
	}
	body, err := onlyDocument(tree)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	f = &File{name: name, tree: tree}
	f.decode(body, v)
	return f, f.Err()
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// plainText takes off the byte order mark that some editors write, and refuses
// what is not a text file in UTF-8, naming the line.
func plainText(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errors.New("1: the file is in UTF-16; save it as UTF-8")
	}
	data = bytes.TrimPrefix(data, byteOrderMark)
	line := 1
	for rest := data; len(rest) > 0; {
		c, size := utf8.DecodeRune(rest)
		switch {
		case c == utf8.RuneError && size == 1:
			return nil, fmt.Errorf("%d: byte %#x is not UTF-8", line, rest[0])
		case c == '\n':
			line++
		case c != '\t' && c != '\r' && unicode.IsControl(c):
			return nil, fmt.Errorf("%d: character %U is not allowed; remove it", line, c)
		}
		rest = rest[size:]
	}
	return data, nil
}

// onlyDocument is the body of the one document that says something. Directives
// and separators around it are documents to the parser.
func onlyDocument(tree *ast.File) (body ast.Node, err error) {
	for _, d := range tree.Docs {
		switch d.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode, *ast.NullNode:
			continue
		}
		if body != nil {
			return nil, fmt.Errorf("%d: a second YAML document begins here; give one", line(d.Body))
		}
		body = d.Body
	}
	return body, nil
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
func located(name string, data []byte, err error) error {
	hint := ""
	if bytes.ContainsRune(data, '\u00a0') {
		hint = "; the file contains a no-break space (U+00A0), which looks like a space and is not one"
	}
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
		return fmt.Errorf("%s:%d: %s%s", name, syntax.GetToken().Position.Line, syntax.GetMessage(), hint)
	}
	return fmt.Errorf("%s: %s%s", name, strings.TrimSpace(err.Error()), hint)
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
