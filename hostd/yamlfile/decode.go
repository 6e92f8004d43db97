package yamlfile

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

func (f *File) decode(node ast.Node, v any) { f.value(node, "", reflect.ValueOf(v).Elem()) }

// value decodes a node into v and notes what is wrong with it. It goes no
// deeper than v's type.
func (f *File) value(node ast.Node, field string, v reflect.Value) {
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return // keeps its default
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		f.problem(line(node), field, "anchors, aliases and tags are not allowed")
		return
	case *ast.MappingValueNode: // a mapping of one
		node = ast.Mapping(n.GetToken(), false, n)
	}
	_, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case isText:
		f.text(node, field, v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		f.value(node, field, v.Elem())
	case v.Kind() == reflect.Struct:
		f.mapping(node, field, v)
	case v.Kind() == reflect.Slice:
		f.list(node, field, v)
	default:
		f.scalar(node, field, v)
	}
}

func (f *File) mapping(node ast.Node, field string, v reflect.Value) {
	m, ok := node.(*ast.MappingNode)
	if !ok {
		f.problem(line(node), field, "fields are expected here")
		return
	}
	for _, pair := range m.Values {
		name := keyName(pair.Key)
		i := slices.Index(names(v.Type()), name)
		if i < 0 {
			f.problem(line(pair.Key), join(field, name), "unknown field"+suggestion(name, names(v.Type())))
			continue
		}
		f.value(pair.Value, join(field, name), v.Field(i))
	}
}

func (f *File) list(node ast.Node, field string, v reflect.Value) {
	s, ok := node.(*ast.SequenceNode)
	if !ok {
		f.problem(line(node), field, "a list is expected here")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	for i, item := range s.Values {
		f.value(item, fmt.Sprintf("%s[%d]", field, i), v.Index(i))
	}
}

func (f *File) text(node ast.Node, field string, v reflect.Value) {
	s, ok := node.(ast.ScalarNode)
	if !ok {
		f.problem(line(node), field, "one value is expected here")
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(written(s))); err != nil {
		f.problem(line(node), field, err.Error())
	}
}

// keyName is a field's name, quoted in the file or not, as JSON quotes all of them.
func keyName(key ast.MapKeyNode) string {
	if s, ok := key.(ast.ScalarNode); ok {
		return written(s)
	}
	return key.String()
}

// written is a value as the file has it: a host 01, a machine 1.10 and an
// interface 0123 are names, and not the numbers that YAML takes them for.
func written(s ast.ScalarNode) string {
	switch s.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return fmt.Sprint(s.GetValue())
	}
	return strings.TrimSpace(s.GetToken().Value)
}

var kinds = map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number in decimal digits", reflect.String: "a text"}

// decimal leaves out what programs read in different ways: 010 is 8 to some and 10
// to others.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (f *File) scalar(node ast.Node, field string, v reflect.Value) {
	if s, ok := node.(ast.ScalarNode); ok && setScalar(v, s) {
		return
	}
	f.problem(line(node), field, fmt.Sprintf("%q is not %s", strings.TrimSpace(node.String()), kinds[v.Kind()]))
}

func setScalar(v reflect.Value, s ast.ScalarNode) bool {
	switch text := written(s); v.Kind() {
	case reflect.String:
		v.SetString(text)
		return true
	case reflect.Int:
		n, err := strconv.Atoi(text)
		v.SetInt(int64(n))
		return err == nil && decimal.MatchString(text)
	}
	return yaml.NodeToValue(s, v.Addr().Interface()) == nil
}

// names of a struct's fields in YAML, in their order.
func names(t reflect.Type) []string {
	all := make([]string, t.NumField())
	for i := range all {
		all[i], _, _ = strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
	}
	return all
}

func line(node ast.Node) int {
	if node.GetToken() == nil || node.GetToken().Position == nil {
		return 0
	}
	return node.GetToken().Position.Line
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// suggestion is the known name nearest to a wrong one, if one is near.
func suggestion(name string, known []string) string {
	const near = 2
	if len(name) > 64 {
		return ""
	}
	best, least := "", near+1
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return "; known here: " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is Levenshtein's: how many letters to change, add or drop.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
