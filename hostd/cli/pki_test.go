package cli

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// certificatesOf decodes what a command printed with --json.
func certificatesOf(t *testing.T, r result) []certificate {
	t.Helper()
	if r.code != ExitOK || r.err != "" || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("%+v", r)
	}
	var all map[string][]certificate
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		t.Fatal(err)
	}
	return all["certificates"]
}

func TestPKI(t *testing.T) {
	now := func() time.Time { return time.Date(2030, 1, 2, 23, 59, 59, 999, time.UTC) }
	at := func(args ...string) result { t.Helper(); return runAt(t, now, "", args...) }
	dir := filepath.Join(t.TempDir(), "pki")
	made := certificatesOf(t, at("pki", "init", "--dir", dir, "a", "b", "--json"))
	if len(made) != 3 || !made[0].Authority || made[1].Subject != "CN=a" || !reflect.DeepEqual(made[2].Names, []string{"b", "stillpoint"}) {
		t.Errorf("made %+v", made)
	}
	issued := certificatesOf(t, at("pki", "issue", "--dir", dir, "c", "--json"))
	if len(issued) != 1 || issued[0].File != filepath.Join(dir, "c.crt") || issued[0].Issuer != made[0].Subject {
		t.Errorf("issued %+v", issued)
	}
	before, _ := os.ReadFile(issued[0].File)
	if r := at("pki", "issue", "--dir", dir, "--renew", "c"); r.code != ExitOK || !strings.Contains(r.out, "CN=c") {
		t.Errorf("%+v", r)
	}
	if after, _ := os.ReadFile(issued[0].File); string(after) == string(before) {
		t.Error("not renewed")
	}
	files := []string{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "b.crt")}
	shown := certificatesOf(t, at(append([]string{"pki", "show", "--json"}, files...)...))
	if !reflect.DeepEqual(shown, []certificate{made[0], made[2]}) {
		t.Errorf("shown %+v\nmade %+v", shown, made)
	}
	for i, validity := range []time.Duration{pki.AuthorityValidity, pki.HostValidity} {
		if shown[i].DaysLeft != int(validity/(24*time.Hour)) {
			t.Errorf("%s has %d days left", shown[i].File, shown[i].DaysLeft)
		}
	}
	r := at(append([]string{"pki", "show"}, files...)...)
	if r.code != ExitOK || strings.Count(r.out, "\n") != 3 || !strings.Contains(r.out, "(authority)") || !strings.Contains(r.out, "b, stillpoint") {
		t.Errorf("%+v", r)
	}
}

func TestPKIFailures(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if r := run(t, "", "pki", "init", "--dir", dir, "a"); r.code != ExitOK {
		t.Fatalf("%+v", r)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"init", "--dir", dir, "b"}, "ca.crt already exists; nothing was created"},
		{[]string{"init", "--dir", dir + "2", "ca"}, `cannot be named "ca"`},
		{[]string{"issue", "--dir", dir, "a"}, "a.crt already exists"},
		{[]string{"issue", "--dir", dir, "b", "--renew"}, "no certificate to renew"},
		{[]string{"issue", "--dir", dir + "2", "b"}, "hostd pki init"},
		{[]string{"show", filepath.Join(dir, "none.crt")}, "no such file"},
		{[]string{"show", filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")}, "only certificates"},
	} {
		r := run(t, "", append([]string{"pki"}, c.args...)...)
		if r.code != ExitFailure || r.out != "" || !strings.Contains(r.err, c.want) {
			t.Errorf("%q: %+v, want %q", c.args, r, c.want)
		}
	}
}

func TestPKIUsageErrors(t *testing.T) {
	for _, args := range []string{"bogus", "init --dir x", "init a", "issue --dir x", "issue --dir x a b", "issue a", "show", "show --bogus"} {
		r := run(t, "", append([]string{"pki"}, strings.Fields(args)...)...)
		if r.code != ExitUsage || r.out != "" || !strings.HasPrefix(r.err, "hostd: ") {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestPKIHelp(t *testing.T) {
	for _, command := range []string{"", "init", "issue", "show"} {
		r := run(t, "", append(append([]string{"pki"}, strings.Fields(command)...), "--help")...)
		if r.code != ExitOK || !strings.Contains(r.out, "Usage:") || (command != "" && !strings.Contains(r.out, "Examples:")) {
			t.Errorf("%q: %+v", command, r)
		}
	}
}

func TestShown(t *testing.T) {
	now := time.Date(2030, 1, 10, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		until time.Time
		days  int
		text  string
	}{
		{now.Add(25 * time.Hour), 1, "1"}, {now.Add(time.Hour), 0, "0"}, {now.Add(-time.Hour), -1, "-1 (expired)"},
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), 2910972, "2910972"},
	} {
		s := shown("f", &x509.Certificate{NotAfter: c.until}, now)
		if s.DaysLeft != c.days || left(s.DaysLeft) != c.text || (s.NotAfter < 0) {
			t.Errorf("until %v: %d days (%s), %d", c.until, s.DaysLeft, left(s.DaysLeft), s.NotAfter)
		}
	}
	var out strings.Builder
	bad := shown("f", &x509.Certificate{Subject: pkix.Name{CommonName: "\x1b[2Ja\tb"}, DNSNames: []string{"x\ny"}}, now)
	if err := certificateTable(&out, []certificate{bad}); err != nil || strings.ContainsAny(out.String(), "\x1b\t") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%q, %v", out.String(), err)
	}
}
