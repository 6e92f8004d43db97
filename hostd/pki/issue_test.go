package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestInit(t *testing.T) {
	dir := authorityOf(t, "a", "b_1.site")
	for file, mode := range map[string]fs.FileMode{"ca.crt": 0o644, "ca.key": 0o600, "a.crt": 0o644, "a.key": 0o600, "b_1.site.crt": 0o644, "b_1.site.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", file, info.Mode(), err, mode)
		}
	}
	if all := contents(t, dir); len(all) != 6 {
		t.Errorf("%d files", len(all))
	}
	authority, host := first(t, dir, "ca"), first(t, dir, "b_1.site")
	if !authority.IsCA || authority.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P256() {
		t.Errorf("no P-256 authority: %+v", authority)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if host.IsCA || host.Subject.CommonName != "b_1.site" || !slices.Equal(host.DNSNames, []string{"b_1.site", "stillpoint"}) || !slices.Equal(host.ExtKeyUsage, usages) {
		t.Errorf("host's certificate: CN %q, names %q, usages %v", host.Subject.CommonName, host.DNSNames, host.ExtKeyUsage)
	}
	load(t, dir, "a", Options{Host: "a"})
}

func first(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	all, err := Certificates(filepath.Join(dir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// contents of a directory by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		all[e.Name()] = string(get(t, filepath.Join(dir, e.Name())))
	}
	return all
}

func same(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := contents(t, dir)
	for name := range after {
		if after[name] != before[name] {
			t.Errorf("%s is new or changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, before %d", len(after), len(before))
	}
}

func TestInitReplacesNothing(t *testing.T) {
	for _, file := range []string{"ca.crt", "ca.key", "a.crt", "b.key"} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, file), 0o644, []byte("mine"))
			before := contents(t, dir)
			err := Init(dir, InitOptions{Hosts: []string{"a", "b"}})
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, file)+" already exists") {
				t.Errorf("got %v", err)
			}
			same(t, dir, before)
		})
	}
}

// TestCreateLeavesNothingHalf is for files that appear after the check.
func TestCreateLeavesNothingHalf(t *testing.T) {
	authority, err := newAuthority(InitOptions{Now: time.Now, Authority: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	other := *authority
	other.name = "a"
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.crt"), 0o644, []byte("mine"))
	before := contents(t, dir)
	if err := create(dir, []*pair{authority, &other}); err == nil {
		t.Error("no error")
	}
	same(t, dir, before)
}

func TestNamesRefused(t *testing.T) {
	for _, hosts := range [][]string{
		{""}, {"-a"}, {"../a"}, {"a/b"}, {"a b"}, {"a\n"}, {strings.Repeat("a", 64)}, {"ca"}, {"CA"}, {"stillpoint"}, {"Stillpoint"}, {"a", "a"}, {"a", "A"},
	} {
		dir := filepath.Join(t.TempDir(), "pki")
		if err := Init(dir, InitOptions{Hosts: hosts}); err == nil {
			t.Errorf("%q were accepted", hosts)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: the directory was made", hosts)
		}
	}
}

// TestNamesThatWork goes to the borders of what the configuration allows.
func TestNamesThatWork(t *testing.T) {
	hosts := []string{"a", "B", "a_b", "a.", "a-", "a..b", "1", "10.0.0.1", "a.-b", strings.Repeat("a", 63)}
	dir := authorityOf(t, hosts...)
	for _, h := range hosts {
		id := load(t, dir, h, Options{Host: h})
		m := meet(t, id.Client(h, "x"), id.Server("x")).admitted(t)
		for _, s := range []string{h, Cluster} {
			meet(t, id.Client(s, "x"), id.Server("x")).admitted(t)
		}
		if name, err := PeerName(m.serverState); name != h || err != nil {
			t.Errorf("%q is known as %q, %v", h, name, err)
		}
	}
}

func TestIssue(t *testing.T) {
	dir := authorityOf(t, "a")
	before := contents(t, dir)
	refused := func(host string, again bool, o InitOptions, want string) {
		t.Helper()
		if err := Issue(dir, host, again, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", host, err, want)
		}
		same(t, dir, before)
	}
	refused("a", false, InitOptions{}, "exists")
	refused("b", true, InitOptions{}, "no certificate to renew")
	refused("A", false, InitOptions{}, `"a" already exists`)
	refused("ca", true, InitOptions{}, "cannot be named")
	refused("b", false, InitOptions{Now: func() time.Time { return time.Now().Add(AuthorityValidity) }}, "the authority expired")
	if err := Issue(dir, "b", false, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	load(t, dir, "b", Options{Host: "b"})
	old := first(t, dir, "b")
	renew(t, dir, "b")
	if renewed := first(t, dir, "b"); old.SerialNumber.Cmp(renewed.SerialNumber) == 0 || renewed.PublicKey.(*ecdsa.PublicKey).Equal(old.PublicKey) {
		t.Error("renewing left the certificate or the key")
	}
	load(t, dir, "b", Options{Host: "b"})
	if info, _ := os.Stat(filepath.Join(dir, "b.key")); info.Mode() != 0o600 {
		t.Errorf("the new key has mode %v", info.Mode())
	}
	if all := contents(t, dir); len(all) != 6 {
		t.Errorf("%d files", len(all))
	}
}

func TestIssueWithoutAuthority(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if err := Issue(none, "a", false, InitOptions{}); err == nil || !strings.Contains(err.Error(), "hostd pki init") {
		t.Errorf("got %v", err)
	}
}

func TestHostEndsWithItsAuthority(t *testing.T) {
	dir := t.TempDir()
	if err := Init(dir, InitOptions{Hosts: []string{"a"}, Authority: time.Hour, Host: 2 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if a, ca := first(t, dir, "a"), first(t, dir, "ca"); !a.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("the host's certificate ends at %v, its authority's at %v", a.NotAfter, ca.NotAfter)
	}
}

// TestIssueFromBundle is for a ca.crt that holds another authority first.
func TestIssueFromBundle(t *testing.T) {
	dir, other := authorityOf(t), authorityOf(t)
	ca := filepath.Join(dir, "ca.crt")
	put(t, ca, 0o644, get(t, filepath.Join(other, "ca.crt")), get(t, ca))
	if err := Issue(dir, "a", false, InitOptions{}); err != nil {
		t.Fatal(err)
	}
	load(t, dir, "a", Options{})
	put(t, ca, 0o644, get(t, filepath.Join(other, "ca.crt")))
	if err := Issue(dir, "b", false, InitOptions{}); err == nil || !strings.Contains(err.Error(), "does not belong to any authority") {
		t.Errorf("got %v", err)
	}
}
