package yamlfile

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// value decodes a node into v and notes what is wrong with it. It goes no
// deeper than v's type.
func (f *File) value(n *yaml.Node, field string, v reflect.Value) {
	f.lines[field] = n.Line
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Style&yaml.TaggedStyle != 0:
		f.problem(n.Line, field, "anchors, aliases and tags are not allowed")
		return
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return // keeps its default
	}
	_, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch {
	case isText:
		f.text(n, field, v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		f.value(n, field, v.Elem())
	case v.Kind() == reflect.Struct:
		f.mapping(n, field, v)
	case v.Kind() == reflect.Slice:
		f.list(n, field, v)
	default:
		f.scalar(n, field, v)
	}
}

func (f *File) mapping(n *yaml.Node, field string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		f.problem(n.Line, field, "fields are expected here")
		return
	}
	known, first := names(v.Type()), map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		switch at := slices.Index(known, name); {
		case key.Kind != yaml.ScalarNode:
			f.problem(key.Line, field, "the name of a field is expected here, not a list or fields")
		case at < 0:
			f.problem(key.Line, join(field, name), "unknown field"+suggestion(name, known))
		case first[name] > 0:
			f.problem(key.Line, join(field, name), fmt.Sprintf("given twice, first in line %d", first[name]))
		default:
			first[name] = key.Line
			f.value(value, join(field, name), v.Field(at))
			if value.Kind != yaml.ScalarNode { // it may begin on a later line
				f.lines[join(field, name)] = key.Line
			}
		}
	}
}

func (f *File) list(n *yaml.Node, field string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		f.problem(n.Line, field, "a list is expected here")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		f.value(item, fmt.Sprintf("%s[%d]", field, i), v.Index(i))
	}
}

func (f *File) text(n *yaml.Node, field string, v reflect.Value) {
	if !f.isScalar(n, field) {
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		f.problem(n.Line, field, err.Error())
	}
}

func (f *File) isScalar(n *yaml.Node, field string) bool {
	if n.Kind != yaml.ScalarNode {
		f.problem(n.Line, field, "one value is expected here, not a list or fields; put quotes around a value with brackets, braces or colons")
		return false
	}
	return true
}

var kinds = map[reflect.Kind]string{reflect.Bool: "true or false", reflect.Int: "a whole number in decimal digits", reflect.String: "a text"}

// decimal leaves out what programs read in different ways: 010 is 8 to some and 10
// to others.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (f *File) scalar(n *yaml.Node, field string, v reflect.Value) {
	if !f.isScalar(n, field) || setScalar(v, n) {
		return
	}
	message := fmt.Sprintf("%q is not %s", n.Value, kinds[v.Kind()])
	if v.Kind() == reflect.Int {
		message += inDecimal(n.Value)
	}
	f.problem(n.Line, field, message)
}

// truths leaves out yes, no, on and off, which YAML takes for texts since 1.2.
var truths = map[string]bool{"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false}

// setScalar takes a text as the file has it, and not as what YAML makes of it: a host
// 01, a machine 1.10 and an interface 0123 are names.
func setScalar(v reflect.Value, n *yaml.Node) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
		return true
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		v.SetInt(int64(i))
		return err == nil && decimal.MatchString(n.Value)
	case reflect.Bool:
		on, known := truths[n.Value]
		v.SetBool(on)
		return known
	}
	return false
}

// inDecimal says how to write a number that is written in another way.
func inDecimal(text string) string {
	read, err := strconv.ParseInt(text, 10, 64)
	other, otherErr := strconv.ParseInt(text, 0, 64)
	switch {
	case err == nil && otherErr == nil && read != other:
		return fmt.Sprintf(": write %d, or %d if it is octal", read, other)
	case err == nil:
		return fmt.Sprintf(": write %d", read)
	case otherErr == nil:
		return fmt.Sprintf(": write %d", other)
	}
	return ""
}

// names of a struct's fields in YAML, in their order.
func names(t reflect.Type) []string {
	all := make([]string, t.NumField())
	for i := range all {
		all[i], _, _ = strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
	}
	return all
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
