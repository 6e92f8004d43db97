package yamlfile

import (
	"strings"
	"testing"
	"time"
)

type example struct {
	Name   string   `yaml:"name"`
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
		"size: big\n":                       `f:1: size: "big" is no size`,
		"\nlimit: 5\n":                      `f:2: limit: "5" is no duration`,
		"part: 10\n":                        `f:1: part: "10" is no percentage`,
		"list: x\n":                         "f:1: list: a list is expected here",
		"inside:\n  on: perhaps\n":          `f:2: inside.on: "perhaps" is not true or false`,
		"name: &a x\n":                      "f:1: name: anchors, aliases and tags are not allowed",
		"list: !x 0\n":                      "f:1: list: anchors, aliases and tags are not allowed",
		"name: [\n":                         "f:1: ",
		"name: a\n---\nname: b\n":           "f: more than one YAML document",
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
