// Package yamlfile reads YAML files strictly and says where they are wrong:
// every error names file, line and field, and all of them are told at once.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// MaxSize of a file, in bytes, and how deep its lists and mappings may nest:
// the parser's time grows with the square of the depth.
const (
	MaxSize  = 1 << 20
	maxDepth = 32
)

// File is a decoded file whose values are being checked.
type File struct {
	name     string
	lines    map[string]int // of the fields that the file gives
	problems []error
}

// Decode reads one document into v, a pointer to a struct that holds the
// defaults: what the file does not give keeps its value. Unknown fields,
// anchors, aliases and tags are errors.
func Decode(name string, data []byte, v any) (f *File, err error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes; at most %d", name, len(data), MaxSize)
	}
	defer func() { // a file must not end the daemon, whatever the parser makes of it
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("%s: cannot be read as YAML: %v", name, r)
		}
	}()
	if data, err = plainText(data); err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	body, err := onlyDocument(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	f = &File{name: name, lines: map[string]int{}}
	if body != nil {
		f.value(body, "", reflect.ValueOf(v).Elem())
	}
	return f, f.Err()
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Both end a line, and a comment, in YAML 1.1, and are letters like others in 1.2.
const lineSeparator, paragraphSeparator = '\u2028', '\u2029'

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
		case c != '\t' && c != '\r' && (unicode.IsControl(c) || c == lineSeparator || c == paragraphSeparator):
			return nil, fmt.Errorf("%d: character %U is not allowed; remove it", line, c)
		}
		rest = rest[size:]
	}
	return data, nil
}

// onlyDocument is the body of the one document that says something; nil: none does.
// Separators around it are documents to the parser. Errors begin with the line.
func onlyDocument(data []byte) (body *yaml.Node, err error) {
	data = oldDirective(data)
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthFunc(notTooDeep))))
	if err != nil {
		return nil, fmt.Errorf(" prepare the YAML parser: %w", err)
	}
	for {
		var document yaml.Node
		switch err := loader.Load(&document); {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, located(data, err)
		}
		if len(document.Content) == 0 || document.Content[0].ShortTag() == "!!null" {
			continue
		}
		if body != nil {
			return nil, fmt.Errorf("%d: a second YAML document begins here; give one", document.Content[0].Line)
		}
		body = document.Content[0]
	}
}

func notTooDeep(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	return nil
}

var version = regexp.MustCompile(`^((?:[ \t]*(?:#[^\n]*)?\n)*%YAML[ \t]+1)\.[0-9]`)

// oldDirective names version 1.1 of YAML where the first line names another 1.x: the
// parser refuses the directive of any other, and reads all alike.
func oldDirective(data []byte) []byte { return version.ReplaceAll(data, []byte("${1}.1")) }

// located puts the line before a parser's error. What is not closed is sought where
// it was opened, since the parser misses its end much later.
func located(data []byte, err error) error {
	hint := ""
	if bytes.ContainsRune(data, '\u00a0') {
		hint = "; the file contains a no-break space (U+00A0), which looks like a space and is not one"
	}
	var syntax *yaml.LoadError
	if !errors.As(err, &syntax) || syntax.Mark.Line == 0 {
		return fmt.Errorf(" %w%s", err, hint)
	}
	lines := bytes.Split(bytes.TrimRight(data, "\r\n"), []byte("\n"))
	line := min(syntax.Mark.Line, len(lines))
	hint = advice(syntax, lines[line-1]) + hint
	if opened := syntax.ContextMark.Line; opened > 0 && opened < line && unclosed.MatchString(syntax.ContextMsg) {
		return fmt.Errorf("%d: what begins here has no end before line %d: %s%s", opened, line, syntax.Message, hint)
	}
	return fmt.Errorf("%d: %s%s", line, syntax.Message, hint)
}

var unclosed = regexp.MustCompile("flow|quoted")

// advice is what to do about the errors that the parser does not explain.
func advice(e *yaml.LoadError, line []byte) string {
	at := line[min(max(e.Mark.Column-1, 0), len(line)):]
	switch {
	case bytes.HasPrefix(at, []byte("\t")):
		return "; indent with spaces, not with a tab"
	case strings.Contains(e.Message, "node content"):
		return "; a value or a closing bracket is missing"
	case strings.Contains(e.Message, "cannot start any token"):
		return fmt.Sprintf("; put quotes around a value that begins with %.1q", at)
	case strings.Contains(e.Message, "mapping values are not allowed"):
		return `; check the indentation, and put quotes around a value that contains ": "`
	}
	return ""
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
		if line := f.lines[field]; line > 0 {
			return line
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return 0
}
