package yamlfile

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

type example struct {
	Name   string   `yaml:"name"`
	Count  int      `yaml:"count"`
	Size   Size     `yaml:"size"`
	Limit  Duration `yaml:"limit"`
	Part   Percent  `yaml:"part"`
	List   []string `yaml:"list"`
	Inside *struct {
		On bool `yaml:"on"`
	} `yaml:"inside"`
}

func TestDecode(t *testing.T) {
	v := example{Limit: Duration(time.Second)}
	text := "name: a\nsize: 64MiB\npart: 12.5%\nlist: [x, y]\ninside: {on: true}\n"
	if _, err := Decode("f", []byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if v.Name != "a" || v.Size != 64<<20 || v.Limit != Duration(time.Second) || v.Part != 0.125 || len(v.List) != 2 || !v.Inside.On {
		t.Errorf("got %+v", v)
	}
}

func TestDecodeNothingKeepsDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "limit:\n"} {
		v := example{Limit: Duration(time.Second)}
		if _, err := Decode("f", []byte(text), &v); err != nil || v.Limit != Duration(time.Second) {
			t.Errorf("%q: %v, limit %v", text, err, v.Limit)
		}
	}
}

func TestDecodeSaysWhereAndWhat(t *testing.T) {
	for text, want := range map[string]string{
		"name: a\nnmae: b\n":                `f:2: nmae: unknown field; did you mean "name"?`,
		"size: big\n":                       `f:1: size: "big" is not a size`,
		"size: 1,5GiB\n":                    `f:1: size: "1,5GiB" is not a size`,
		"size: 1,024MiB\n":                  `f:1: size: "1,024MiB" is not a size`,
		"\nlimit: 5\n":                      `f:2: limit: "5" is not a duration`,
		"part: 10\n":                        `f:1: part: "10" is not a percentage`,
		"list: x\n":                         "f:1: list: a list is expected here",
		"inside:\n  on: perhaps\n":          `f:2: inside.on: "perhaps" is not true or false`,
		"name: &a x\n":                      "f:1: name: anchors, aliases and tags are not allowed",
		"list: !x 0\n":                      "f:1: list: anchors, aliases and tags are not allowed",
		"\xff\xfen\x00":                     "f:1: the file is in UTF-16",
		"name: a\nlist: [\xe9]\n":           "f:2: byte 0xe9 is not UTF-8",
		"name: a\n\x1a":                     "f:2: character U+001A is not allowed",
		"name: a\x00\n":                     "f:1: character U+0000 is not allowed",
		"name:\u00a0a\nsize: 1MiB\n":        "no-break space",
		"count: 010\n":                      `f:1: count: "010" is not a whole number in decimal digits: write 10, or 8 if it is octal`,
		"count: 0755\n":                     `is not a whole number in decimal digits: write 755, or 493 if it is octal`,
		"count: 01\n":                       `f:1: count: "01" is not a whole number in decimal digits: write 1`,
		"count: 0o17\n":                     `digits: write 15`,
		"count: 1_000\n":                    `digits: write 1000`,
		"count: +5\n":                       `digits: write 5`,
		"inside: {on: yes}\n":               `"yes" is not true or false`,
		"name: a\ncount: 1\nname: b\n":      "f:3: name: given twice, first in line 1",
		"a: 1\nlist: [x,\n  y\nname: z\n":   "f:2: what begins here has no end before line 4",
		"name: \"x\ncount: 1\n":             "f:1: what begins here has no end before line 2",
		"name: a\n\tcount: 1\n":             "f:2: found a tab character that violates indentation; indent with spaces",
		"inside:\n\ton: true\n":             "f:2: found character that cannot start any token; indent with spaces, not with a tab",
		"name: @a\n":                        `put quotes around a value that begins with "@"`,
		"name: a: b\n":                      `put quotes around a value that contains ": "`,
		"list: [fd00::]\n":                  "f:1: list[0]: one value is expected here, not a list or fields; put quotes around",
		"list: [http://[::1]:1]\n":          "f:1: ",
		"? [name]\n: a\n":                   "f:1: the name of a field is expected here",
		"name: *a\n":                        "f:1: unknown anchor",
		"# a\u2028name: b\n":                "f:1: character U+2028 is not allowed",
		"count: 0x10\n":                     `f:1: count: "0x10" is not a whole number`,
		"count: 2.0\n":                      `f:1: count: "2.0" is not a whole number`,
		"count: 1e1\n":                      `f:1: count: "1e1" is not a whole number`,
		"count: 99999999999999999999\n":     "is not a whole number",
		"size: 010000\n":                    `f:1: size: "010000" is not a size`,
		"size: 0x10000000\n":                `f:1: size: "0x10000000" is not a size`,
		"part: NaN%\n":                      `"NaN%" is not a percentage`,
		"part: inf%\n":                      `"inf%" is not a percentage`,
		"name: [\n":                         "f:1: did not find expected node content; a value or a closing bracket is missing",
		"name: a\n---\nname: b\n":           "f:3: a second YAML document begins here; give one",
		strings.Repeat("[", 64<<10):         "f:1: nested deeper than 32",
		strings.Repeat("- ", 64<<10) + "x":  "f:1: nested deeper than 32",
		strings.Repeat("#", MaxSize) + "\n": "f: 1048577 bytes; at most 1048576",
	} {
		_, err := Decode("f", []byte(text), new(example))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

// TestTextsAreTakenAsWritten: YAML takes these for numbers, dates or truth values; to
// whoever wrote them they are names.
func TestTextsAreTakenAsWritten(t *testing.T) {
	for _, text := range []string{"01", "007", "0755", "0o17", "1.10", "1_000", "0x1F", "1e3", "12e03", "+5", "0b11", "5.0", ".5", ".inf", ".NaN",
		"true", "True", "FALSE", "no", "On", "y", "2024-01-01", "12:30:45", "123456789012345678901234567890", "4.86", "0486", "-1"} {
		for _, layout := range []string{"name: %s\n", "name: %s # a comment\n", "{name: %s}", `{"name": "%s"}`, "name: '%s'\n", "\"name\":\n  %s\n"} {
			var v example
			if _, err := Decode("f", fmt.Appendf(nil, layout, text), &v); err != nil || v.Name != text {
				t.Errorf(layout+": got %q, %v", text, v.Name, err)
			}
		}
		v := example{}
		if _, err := Decode("f", []byte("list: ["+text+", "+text+"]\n"), &v); err != nil || len(v.List) != 2 || v.List[1] != text {
			t.Errorf("list of %s: %q, %v", text, v.List, err)
		}
	}
}

// TestStyles: valid YAML means the same however it is written.
func TestStyles(t *testing.T) {
	want := example{Name: "a b", Count: 3, Size: 64 << 20, List: []string{"fd00::1", "::2", "http://x:1/y"}}
	for name, text := range map[string]string{
		"block":         "name: a b\ncount: 3\nsize: 64MiB\nlist:\n  - fd00::1\n  - ::2\n  - http://x:1/y\n",
		"flow":          "{name: a b, count: 3, size: 64MiB, list: [fd00::1, ::2, http://x:1/y]}\n",
		"flow, lines":   "{\n  name: a b, # c\n  count: 3,\n  size: 64MiB,\n  list: [\n    fd00::1,\n    ::2,\n    http://x:1/y,\n  ],\n}\n",
		"quotes":        "'name': \"a b\"\n\"count\": '3'\nsize: \"64MiB\"\nlist: ['fd00::1', \"::2\", 'http://x:1/y']\n",
		"folded":        "name: >-\n  a\n  b\ncount: 3\nsize: 64MiB\nlist:\n- fd00::1\n- >-\n  ::2\n- |-\n  http://x:1/y\n",
		"two lines":     "name: a\n  b\ncount:\n  3\nsize: 64MiB\nlist: [fd00::1,\n  ::2, http://x:1/y]\n",
		"explicit keys": "? name\n: a b\n? count\n: 3\nsize: 64MiB\nlist: [fd00::1, ::2, http://x:1/y]\n",
		"tabs":          "name:\ta b\t# c\ncount: 3\n\t\nsize: 64MiB\nlist: [fd00::1,\n\t::2,\thttp://x:1/y]\n",
		"brackets": strings.Repeat("# [ { - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - -\n", 40) +
			"name: a b\ncount: 3\nsize: 64MiB\nlist: [fd00::1, ::2, http://x:1/y]\n",
	} {
		var v example
		if _, err := Decode("f", []byte(text), &v); err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

// TestTextsOfManyLines, and with what means something elsewhere.
func TestTextsOfManyLines(t *testing.T) {
	for text, want := range map[string]string{
		"name: |\n  a\n  b\n": "a\nb\n", "name: >\n  a\n  b\n": "a b\n", "name: |-\n  a\n": "a", "name: |2-\n    a\n": "  a", "name: | # c\n  a\n": "a\n",
		"name: a\tb\n": "a\tb", "name: 'a\n\n  b'\n": "a\nb", "name: \"a\\\n  b\"\n": "ab", "name: 'it''s'\n": "it's", "name: \"\\x41\\u2028\"\n": "A\u2028", "name: a#b ]{,\n": "a#b ]{,",
	} {
		var v example
		if _, err := Decode("f", []byte(text), &v); err != nil || v.Name != want {
			t.Errorf("%q: got %q, %v", text, v.Name, err)
		}
	}
}

// TestWhatGrowsWithoutEnd: anchors that stand for each other many times over are no more
// than their own text.
func TestWhatGrowsWithoutEnd(t *testing.T) {
	text := "a0: &a0 [x, x]\n"
	for i := range 30 {
		text += fmt.Sprintf("a%d: &a%d [*a%d, *a%[3]d, *a%[3]d, *a%[3]d]\n", i+1, i+1, i)
	}
	if _, err := Decode("f", []byte(text+"list: *a30\n"), new(example)); err == nil || !strings.Contains(err.Error(), "f:32: list: anchors, aliases and tags are not allowed") {
		t.Errorf("got %v", err)
	}
}

// TestProblemsAreInTheirLine, or in that of what is around.
func TestProblemsAreInTheirLine(t *testing.T) {
	f, err := Decode("f", []byte("name:\n  a\n\nlist:\n  - x\n  - y\ninside:\n\n  on: true\n"), new(example))
	if err != nil {
		t.Fatal(err)
	}
	for field, line := range map[string]int{"name": 2, "list": 4, "list[1]": 6, "list[1].x": 6, "list[7]": 4, "inside": 7, "inside.on": 9, "inside.off": 7, "other": 0, "": 0} {
		if got := f.line(field); got != line {
			t.Errorf("%s: line %d, want %d", field, got, line)
		}
	}
}

// TestVariantsOfAFile: what editors, generators and other programs write around one
// document is no part of it.
func TestVariantsOfAFile(t *testing.T) {
	const plain = "name: a\nlimit: 2s\ninside:\n  on: true\n"
	for name, text := range map[string]string{
		"byte order mark": "\ufeff" + plain, "mark and CRLF": "\ufeff" + strings.ReplaceAll(plain, "\n", "\r\n"),
		"CRLF": strings.ReplaceAll(plain, "\n", "\r\n"), "CR": strings.ReplaceAll(plain, "\n", "\r"),
		"directive": "%YAML 1.2\n---\n" + plain, "comment, directive": "# c\n%YAML 1.1\n---\n" + plain + "...\n",
		"directive 1.1": "%YAML 1.1\n---\n" + plain, "directive 1.3": "\n%YAML  1.3 # c\n---\n" + plain, "directive, CRLF": "# c\r\n%YAML 1.2\r\n---\r\n" + plain,
		"separator first": "---\n" + plain, "separator last": plain + "---\n", "separators": "---\n" + plain + "...\n---\n# nothing\n",
		"end": plain + "...\n", "no last newline": strings.TrimSuffix(plain, "\n"), "quoted keys": "\"name\": a\n'limit': 2s\n\"inside\": {\"on\": true}\n",
		"JSON": `{"name": "a", "limit": "2s", "inside": {"on": true}}`, "JSON with tabs": "{\n\t\"name\": \"a\",\n\t\"limit\": \"2s\",\n\t\"inside\": {\n\t\t\"on\": true\n\t}\n}\n",
		"mark and JSON": "\ufeff" + `{"name":"a","limit":"2s","inside":{"on":true}}`, "no-break space in a comment": "# a\u00a0b\n" + plain,
	} {
		var v example
		if _, err := Decode("f", []byte(text), &v); err != nil || v.Name != "a" || v.Limit != Duration(2*time.Second) || v.Inside == nil || !v.Inside.On {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestDecodeTellsAllAtOnce(t *testing.T) {
	_, err := Decode("f", []byte("size: big\nlimit: long\nother: 1\n"), new(example))
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("want three problems, got %v", err)
	}
}

func TestValuesReadBackTheSame(t *testing.T) {
	for _, s := range []Size{0, 1, 1023, 1 << 10, 3 << 20, 5 << 30, 1<<30 + 1} {
		text, _ := s.MarshalText()
		var back Size
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%d: %s, %d, %v", s, text, back, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nlist: [x]\ninside: {on: true}\n"))
	f.Add([]byte("list: !x 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Decode("f", data, new(example)); err == nil && file == nil {
			t.Error("neither a file nor an error")
		}
	})
}
