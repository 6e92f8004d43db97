package cli

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/stillpoint-ft/stillpoint/hostd/pki"
)

// pki commands work on files and need no daemon.
func (a *app) pki() *cobra.Command {
	c := &cobra.Command{Use: "pki", Short: "Make and show the certificates that hosts use", Args: commandsOnly,
		Long: "Makes a small certificate authority and a certificate for each host. Sites that have an\nauthority use their own; docs/tls.md describes what a certificate needs.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.pkiInit(), a.pkiIssue(), a.pkiShow())
	return c
}

func (a *app) pkiInit() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "init --dir DIR HOST...", Short: "Make an authority and a certificate for each host", Args: atLeastOne,
		Long: `Makes ca.crt and ca.key in a directory, and HOST.crt and HOST.key for each host;
HOST is the host's name in its configuration. Existing files are never replaced. A
host needs ca.crt and its own two files. ca.key is needed only to issue
certificates: keep it off the hosts.`,
		Example: "  hostd pki init --dir pki a b w",
		RunE: func(_ *cobra.Command, hosts []string) error {
			if err := needs(dir); err != nil {
				return err
			}
			if err := pki.Init(dir, pki.InitOptions{Hosts: hosts, Now: a.Now}); err != nil {
				return err
			}
			return a.show(certificateFiles(dir, append([]string{"ca"}, hosts...)))
		},
	}
	directory(c, &dir)
	return c
}

func (a *app) pkiIssue() *cobra.Command {
	var dir string
	var renew bool
	c := &cobra.Command{
		Use: "issue --dir DIR HOST", Short: "Make a certificate for another host, or renew one", Args: exactly(1),
		Long: `Makes HOST.crt and HOST.key with the authority in a directory. With --renew it
replaces those of the host. Copy them to the host, the key first; its daemon uses
them from the next connection on, without a restart.`,
		Example: "  hostd pki issue --dir pki c\n  hostd pki issue --dir pki a --renew",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := needs(dir); err != nil {
				return err
			}
			if err := pki.Issue(dir, args[0], renew, pki.InitOptions{Now: a.Now}); err != nil {
				return err
			}
			return a.show(certificateFiles(dir, args))
		},
	}
	directory(c, &dir)
	c.Flags().BoolVar(&renew, "renew", false, "replace the host's certificate and key")
	return c
}

func (a *app) pkiShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE...", Short: "Show certificates and their validity", Args: atLeastOne,
		Long:    "Shows every certificate in PEM files: its subject, its names, and the days until it\nexpires. It does not check whether anyone trusts it.",
		Example: "  hostd pki show /etc/stillpoint/pki/ca.crt /etc/stillpoint/pki/host.crt",
		RunE:    func(_ *cobra.Command, files []string) error { return a.show(files) },
	}
}

func directory(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", "", "directory of the authority")
	c.MarkFlagDirname("dir")
}

func needs(dir string) error {
	if dir == "" {
		return usageError{errors.New("--dir is missing: name the directory of the authority")}
	}
	return nil
}

func atLeastOne(c *cobra.Command, args []string) error {
	if err := cobra.MinimumNArgs(1)(c, args); err != nil {
		return usageError{fmt.Errorf("%w; see \"%s --help\"", err, c.CommandPath())}
	}
	return nil
}

func certificateFiles(dir string, names []string) []string {
	var files []string
	for _, n := range names {
		files = append(files, filepath.Join(dir, n+".crt"))
	}
	return files
}

// certificate as it is shown. As in protobuf's JSON, 64-bit numbers are strings.
type certificate struct {
	File      string   `json:"file"`
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	Authority bool     `json:"authority"`
	Names     []string `json:"names"`
	NotBefore int64    `json:"not_before_unix_nanos,string"`
	NotAfter  int64    `json:"not_after_unix_nanos,string"`
	// DaysLeft are whole ones; below 0 when the time is over.
	DaysLeft int `json:"days_left"`

	from, until time.Time
}

// show the certificates of files, all or, if one cannot be read, none.
func (a *app) show(files []string) error {
	all := []certificate{}
	for _, file := range files {
		some, err := pki.Certificates(file)
		if err != nil {
			return fmt.Errorf("show certificates: %w", err)
		}
		for _, c := range some {
			all = append(all, shown(file, c, a.Now()))
		}
	}
	if a.json {
		return json.NewEncoder(a.Stdout).Encode(map[string][]certificate{"certificates": all})
	}
	return certificateTable(a.Stdout, all)
}

func shown(file string, c *x509.Certificate, now time.Time) certificate {
	return certificate{File: file, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Authority: c.IsCA,
		Names: append(append([]string{}, c.DNSNames...), texts(c.IPAddresses)...), NotBefore: nanos(c.NotBefore), NotAfter: nanos(c.NotAfter),
		DaysLeft: int(math.Floor(float64(c.NotAfter.Unix()-now.Unix()) / (24 * 60 * 60))), from: c.NotBefore, until: c.NotAfter}
}

func texts(addresses []net.IP) []string {
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all
}

// nanos since 1970, or the nearest that 64 bits hold: years 1678 to 2261.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() > 2261:
		return math.MaxInt64
	case t.Year() < 1678:
		return math.MinInt64
	}
	return t.UnixNano()
}

func certificateTable(w io.Writer, all []certificate) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tSUBJECT\tNAMES\tFROM\tUNTIL\tDAYS LEFT")
	for _, c := range all {
		names := strings.Join(c.Names, ", ")
		if c.Authority {
			names = "(authority)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.File, printable(c.Subject), orDash(printable(names)), day(c.from), day(c.until), left(c.DaysLeft))
	}
	return t.Flush()
}

// printable keeps what strangers wrote into a certificate off the terminal's
// controls and in its column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func left(days int) string {
	if days < 0 {
		return fmt.Sprintf("%d (expired)", days)
	}
	return fmt.Sprint(days)
}
