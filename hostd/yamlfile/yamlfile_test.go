package yamlfile

import (
	"fmt"
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
		"count: 010\n":                      `f:1: count: "010" is not a whole number in decimal digits`,
		"count: 0x10\n":                     `f:1: count: "0x10" is not a whole number`,
		"count: 2.0\n":                      `f:1: count: "2.0" is not a whole number`,
		"count: 1e1\n":                      `f:1: count: "1e1" is not a whole number`,
		"count: 99999999999999999999\n":     "is not a whole number",
		"size: 010000\n":                    `f:1: size: "010000" is not a size`,
		"size: 0x10000000\n":                `f:1: size: "0x10000000" is not a size`,
		"part: NaN%\n":                      `"NaN%" is not a percentage`,
		"part: inf%\n":                      `"inf%" is not a percentage`,
		"name: [\n":                         "f:1: ",
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

// TestVariantsOfAFile: what editors, generators and other programs write around one
// document is no part of it.
func TestVariantsOfAFile(t *testing.T) {
	const plain = "name: a\nlimit: 2s\ninside:\n  on: true\n"
	for name, text := range map[string]string{
		"byte order mark": "\ufeff" + plain, "mark and CRLF": "\ufeff" + strings.ReplaceAll(plain, "\n", "\r\n"),
		"CRLF": strings.ReplaceAll(plain, "\n", "\r\n"), "CR": strings.ReplaceAll(plain, "\n", "\r"),
		"directive": "%YAML 1.2\n---\n" + plain, "comment, directive": "# c\n%YAML 1.1\n---\n" + plain + "...\n",
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
