// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// GitOps writes counts to a file in a Git repository.
type GitOps struct {
	// The repository: `ssh://git@host/org/repo.git`, `git@host:org/repo.git`,
	// `https://host/org/repo.git`, or a local path, also as `file:///path`.
	// Without credentials, which come from files.
	Repository string `json:"repository"`
	// The branch, which must exist.
	Branch string `json:"branch"`
	// `instead` commits the replica count and leaves the scaling to whatever
	// applies the repository; `record` scales as without gitOps, and commits
	// what was scaled afterwards.
	Mode GitMode `json:"mode"`
	// The YAML or JSON file, by its path inside the repository.
	File string `json:"file"`
	// The [path](#paths-in-a-file) of the replica count. Required with the mode
	// `instead`.
	Replicas string `json:"replicas"`
	// The path of the minimum in force, for the mode `record`, such as
	// `spec.minReplicas` of a HorizontalPodAutoscaler.
	MinReplicas string `json:"minReplicas"`
	// The path of the maximum in force, for the mode `record`.
	MaxReplicas string `json:"maxReplicas"`
	// What the commits say, above the trailers. `{id}` is the autoscaler's ID,
	// `{change}` what changes in the file, `{from}` and `{to}` the replica
	// counts of the decision, `{reason}` why.
	Message string `json:"message"`
	// Whether to append `[skip ci]` to the first line.
	SkipCI bool `json:"skipCI"`
	// Who the author and committer is.
	Author GitAuthor `json:"author"`
	// With what to [sign](#gitopssigning) the commits. Unset does not.
	Signing *GitSigning `json:"signing"`
	// How to [reach](#gitopsssh) a repository over SSH. Required for one.
	SSH *GitSSH `json:"ssh"`
	// How to [reach](#gitopshttps) a repository over HTTPS.
	HTTPS *GitHTTPS `json:"https"`
	// The least time from one commit to the next. What is decided meanwhile
	// waits; the latest counts. 0 does not wait.
	MinInterval *Seconds `json:"minInterval"`
	// How long one exchange with the repository may take. 0 takes the default.
	Timeout Milliseconds `json:"timeout"`
	// Whether the REST API may [commit files](#gitopsupdate).
	Update GitUpdate `json:"update"`
}

// GitMode is what a commit is to the scaling.
type GitMode string

// The modes.
const (
	GitInstead GitMode = "instead"
	GitRecord  GitMode = "record"
)

// GitAuthor is who commits.
type GitAuthor struct {
	// The name.
	Name string `json:"name"`
	// The address.
	Email string `json:"email"`
}

// GitSigning is with what commits are signed. The files are read again for each
// commit.
type GitSigning struct {
	// `openpgp`, as of GnuPG, or `ssh`.
	Format GitSignature `json:"format"`
	// The file of the private key: exported by GnuPG as text for `openpgp`, PEM for `ssh`.
	KeyFile string `json:"keyFile"`
	// The file of the key's passphrase, if it has one.
	PassphraseFile string `json:"passphraseFile"`
}

// GitSignature is a format of signatures.
type GitSignature string

// The formats.
const (
	GitOpenPGP  GitSignature = "openpgp"
	GitSSHSigns GitSignature = "ssh"
)

// GitSSH is how to reach a repository over SSH. The files are read again for
// each exchange.
type GitSSH struct {
	// The file of the PEM private key.
	PrivateKeyFile string `json:"privateKeyFile"`
	// The file of the key's passphrase, if it has one.
	PassphraseFile string `json:"passphraseFile"`
	// The file that names the host's keys, as `ssh-keyscan` writes it.
	KnownHostsFile string `json:"knownHostsFile"`
}

// GitHTTPS is how to reach a repository over HTTPS. The files are read again
// for each exchange.
type GitHTTPS struct {
	// The user's name. Many servers take any where the password is a token.
	Username string `json:"username"`
	// The file of the password or access token. Unset reaches the repository
	// without.
	PasswordFile string `json:"passwordFile"`
	// A file of PEM certificates to trust, instead of the system's.
	CAFile string `json:"caFile"`
}

// GitUpdate lets the REST API commit whole files.
type GitUpdate struct {
	// Whether it may.
	Enabled bool `json:"enabled"`
	// The folder of the repository below which it may, such as `apps`; a narrow
	// one is best. `.` is all of it, with `.gitmodules` and the workflows of its
	// CI.
	AllowedPath string `json:"allowedPath"`
	// The largest file, in bytes, up to 16 MiB. 0 takes the default.
	MaxBytes int64 `json:"maxBytes"`
}

// What gitOps does where it does not say.
const (
	defaultGitBranch              = "main"
	defaultGitMessage             = "Scale {id}: {change}"
	defaultGitAuthor              = "custom-pod-autoscaler"
	defaultGitEmail               = "custom-pod-autoscaler@localhost"
	defaultGitUsername            = "x-access-token"
	defaultGitInterval    Seconds = 60
	defaultGitTimeout             = 30000
	defaultGitUpdateBytes         = 1 << 20
)

// Limits on gitOps.
const (
	maxGitText        = 1024
	maxGitTimeout     = 600_000
	maxGitInterval    = 86400
	maxGitUpdateBytes = 16 << 20
)

// complete fills in what gitOps leaves out.
func (g *GitOps) complete() {
	if g == nil {
		return
	}
	g.Branch = cmp.Or(g.Branch, defaultGitBranch)
	g.Message = cmp.Or(g.Message, defaultGitMessage)
	g.Author.Name = cmp.Or(g.Author.Name, defaultGitAuthor)
	g.Author.Email = cmp.Or(g.Author.Email, defaultGitEmail)
	if g.HTTPS != nil {
		g.HTTPS.Username = cmp.Or(g.HTTPS.Username, defaultGitUsername)
	}
	if g.MinInterval == nil {
		g.MinInterval = new(defaultGitInterval)
	}
	g.Timeout = cmp.Or(g.Timeout, defaultGitTimeout)
	g.Update.MaxBytes = cmp.Or(g.Update.MaxBytes, defaultGitUpdateBytes)
}

// GitPlace is where a repository is.
type GitPlace struct {
	// Scheme is "ssh", "https" or "file".
	Scheme string
	// User is the SSH user.
	User string
	// Host and Port are the server's; Port is empty for the scheme's own.
	Host, Port string
	// Path is the repository's on its host; over SSH one without a slash in
	// front is relative to the user's home.
	Path string
}

// scpForm is git's short form of an SSH address, user@host:path.
var scpForm = regexp.MustCompile(`^(?:([^@/:\s]+)@)?([^@/:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)

// Place reads the repository's address. Its errors do not repeat it: it may
// hold a password that should not be there.
func (g GitOps) Place() (GitPlace, error) {
	text := g.Repository
	switch {
	case text == "":
		return GitPlace{}, errors.New("is required: where the repository is, such as ssh://git@host/org/repo.git")
	case strings.ContainsFunc(text, unicode.IsControl):
		return GitPlace{}, errors.New("must not hold line breaks or other control characters")
	case strings.HasPrefix(text, "/"):
		return GitPlace{Scheme: "file", Path: path.Clean(text)}, nil
	case strings.Contains(text, "://"):
		return gitURL(text)
	}
	parts := scpForm.FindStringSubmatch(text)
	if parts == nil || strings.HasPrefix(parts[2], "-") {
		return GitPlace{}, errors.New("must be ssh://git@host/org/repo.git, git@host:org/repo.git, https://host/org/repo.git or a path that begins with /")
	}
	if parts[1] == "" {
		return GitPlace{}, errors.New("must name the SSH user, as git@host:org/repo.git does")
	}
	return GitPlace{Scheme: "ssh", User: parts[1], Host: strings.Trim(parts[2], "[]"), Path: parts[3]}, nil
}

func gitURL(text string) (GitPlace, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return GitPlace{}, errors.New("must be a URL that can be parsed") // what url.Parse says may quote a password
	}
	place := GitPlace{Scheme: parsed.Scheme, Host: parsed.Hostname(), Port: parsed.Port(), Path: parsed.Path}
	if _, given := parsed.User.Password(); given || parsed.Scheme == "https" && parsed.User != nil {
		return GitPlace{}, errors.New("must hold no credentials: name their files in gitOps.https or gitOps.ssh")
	}
	if parsed.RawQuery != "" || parsed.Fragment != "" {
		return GitPlace{}, errors.New("must end with the path of the repository, without ? or #")
	}
	place.User = parsed.User.Username()
	switch {
	case place.Scheme == "file":
		if place.Host != "" && place.Host != "localhost" {
			return GitPlace{}, errors.New("must be file:///path, with three slashes, for a local path")
		}
		place.Host, place.Path = "", path.Clean(place.Path)
		return place, nil
	case place.Scheme != "https" && place.Scheme != "ssh":
		return GitPlace{}, fmt.Errorf("must begin with ssh://, https:// or file://, or be git@host:org/repo.git, got %s://", shorten(place.Scheme))
	case place.Host == "" || strings.HasPrefix(place.Host, "-"):
		return GitPlace{}, errors.New("must name a host")
	case strings.Trim(place.Path, "/") == "":
		return GitPlace{}, errors.New("must name the repository on its host, such as /org/repo.git")
	case place.Scheme == "ssh" && place.User == "":
		return GitPlace{}, errors.New("must name the SSH user, as ssh://git@host/org/repo.git does")
	}
	if place.Scheme == "ssh" && strings.HasPrefix(place.Path, "/~") {
		place.Path = place.Path[1:]
	}
	return place, nil
}

// String is the address without credentials.
func (p GitPlace) String() string {
	if p.Scheme == "file" {
		return p.Path
	}
	address := url.URL{Scheme: p.Scheme, Host: p.Host, Path: p.Path}
	if strings.Contains(p.Host, ":") {
		address.Host = "[" + p.Host + "]"
	}
	if p.Port != "" {
		address.Host = net.JoinHostPort(p.Host, p.Port)
	}
	if p.User != "" {
		address.User = url.User(p.User)
	}
	if !strings.HasPrefix(p.Path, "/") {
		address.Path = "/" + p.Path
	}
	return address.String()
}

// gitOps checks the block.
func (v *validator) gitOps(key string, g *GitOps) {
	place, err := g.Place()
	if err != nil {
		v.fault(under(key, "repository"), "%v", err)
	}
	if !branchName(g.Branch) {
		v.fault(under(key, "branch"), "must be the name of a branch, such as main, got %q", shorten(g.Branch))
	}
	oneOf(v, under(key, "mode"), g.Mode, GitInstead, GitRecord)
	v.gitFile(under(key, "file"), g.File)
	v.gitPaths(key, g)
	v.gitMessage(under(key, "message"), g.Message)
	v.gitAuthor(under(key, "author"), g.Author)
	if g.Signing != nil {
		v.gitSigning(under(key, "signing"), *g.Signing)
	}
	v.gitAccess(key, place, g)
	if g.MinInterval != nil {
		v.between(under(key, "minInterval"), int64(*g.MinInterval), 0, maxGitInterval)
	}
	v.between(under(key, "timeout"), int64(g.Timeout), 0, maxGitTimeout)
	v.gitUpdate(under(key, "update"), g.Update)
}

// branchName says whether git would take a name (git check-ref-format), and it
// needs no quoting.
func branchName(name string) bool {
	if name == "" || name == "@" || len(name) > 255 || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") {
		return false
	}
	if strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.ContainsAny(name, " ~^:?*[\\") || strings.ContainsFunc(name, unicode.IsControl) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

func (v *validator) gitFile(key, file string) {
	if file == "" {
		v.fault(key, "is required: the file inside the repository, such as apps/web/deployment.yaml")
		return
	}
	if err := CheckGitPath(file); err != nil {
		v.fault(key, "%v", err)
	}
}

// maxGitPath is the longest path of a file in a repository.
const maxGitPath = 1024

// CheckGitPath says what is wrong with the path of a file inside a repository:
// it must be written the shortest way, lead out of nowhere, and touch nothing
// of git's own.
func CheckGitPath(file string) error {
	switch {
	case file == "" || len(file) > maxGitPath:
		return fmt.Errorf("must be a path of 1 to %d letters", maxGitPath)
	case strings.HasPrefix(file, "/"):
		return errors.New("must be a path inside the repository: without / in front")
	case strings.ContainsFunc(file, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar || r == '\\' }):
		return errors.New(`must be UTF-8 text without control characters and \`)
	case slices.Contains(strings.Split(file, "/"), ".."):
		return errors.New("must be a path without .. in it, inside the repository")
	case path.Clean(file) != file || file == ".":
		return fmt.Errorf("must name a file, and no more: write %q", shorten(path.Clean(file)))
	}
	for part := range strings.SplitSeq(file, "/") {
		if gitOwn(part) {
			return errors.New("must not be among git's own files, .git")
		}
	}
	return nil
}

// gitOwn says whether some file system takes a name for .git: in other case,
// with what HFS+ ignores, with dots or spaces at the end, as its short name, or
// with a stream of NTFS.
func gitOwn(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
	plain, _, _ = strings.Cut(plain, ":")
	plain = strings.TrimRight(plain, " .")
	return plain == ".git" || plain == "git~1"
}

func (v *validator) gitPaths(key string, g *GitOps) {
	given := 0
	for _, p := range []struct{ name, path string }{
		{"replicas", g.Replicas}, {"minReplicas", g.MinReplicas}, {"maxReplicas", g.MaxReplicas},
	} {
		if p.path == "" {
			continue
		}
		given++
		if _, err := ParseYAMLPath(p.path); err != nil {
			v.fault(under(key, p.name), "%v", err)
		}
		if g.Mode == GitInstead && p.name != "replicas" {
			v.fault(under(key, p.name), "must be left out with the mode instead, which writes the replica count only")
		}
	}
	switch {
	case g.Mode == GitInstead && g.Replicas == "":
		v.fault(under(key, "replicas"), "is required with the mode instead: the path of the replica count in the file, such as spec.replicas")
	case g.Mode == GitRecord && given == 0:
		v.fault(under(key, "replicas"), "is required, unless minReplicas or maxReplicas is given: the path of the replica count in the file, such as spec.replicas")
	}
}

// gitPlaceholder is what may be one in a message.
var gitPlaceholder = regexp.MustCompile(`\{[A-Za-z]+\}`)

// gitPlaceholders are those there are.
var gitPlaceholders = []string{"{id}", "{change}", "{from}", "{to}", "{reason}"}

func (v *validator) gitMessage(key, message string) {
	if len(message) > maxGitText {
		v.fault(key, "must be at most %d letters long, got %d", maxGitText, len(message))
		return
	}
	if strings.TrimSpace(message) == "" || strings.HasPrefix(message, "\n") {
		v.fault(key, "must begin with a line that says something")
	}
	for _, used := range gitPlaceholder.FindAllString(message, -1) {
		if !slices.Contains(gitPlaceholders, used) {
			v.fault(key, "must hold no %s: there are %s", shorten(used), strings.Join(gitPlaceholders, ", "))
		}
	}
}

func (v *validator) gitAuthor(key string, a GitAuthor) {
	for _, part := range []struct{ name, text string }{{"name", a.Name}, {"email", a.Email}} {
		if strings.ContainsFunc(part.text, func(r rune) bool { return unicode.IsControl(r) || r == '<' || r == '>' }) ||
			strings.TrimSpace(part.text) != part.text || part.text == "" || len(part.text) > maxGitText {
			v.fault(under(key, part.name), "must be one line without < and >, got %q", shorten(part.text))
		}
	}
}

func (v *validator) gitSigning(key string, s GitSigning) {
	oneOf(v, under(key, "format"), s.Format, GitOpenPGP, GitSSHSigns)
	if s.KeyFile == "" {
		v.fault(under(key, "keyFile"), "is required: the file of the private key to sign with")
	}
}

// gitAccess checks the block of the repository's scheme; another one was meant
// to be used.
func (v *validator) gitAccess(key string, place GitPlace, g *GitOps) {
	if place.Scheme == "" {
		return
	}
	if g.SSH != nil && place.Scheme != "ssh" {
		v.fault(under(key, "ssh"), "must be left out: the repository is not reached over SSH")
	}
	if g.HTTPS != nil && place.Scheme != "https" {
		v.fault(under(key, "https"), "must be left out: the repository is not reached over HTTPS")
	}
	if place.Scheme != "ssh" {
		return
	}
	if g.SSH == nil {
		v.fault(under(key, "ssh"), "is required for a repository over SSH: privateKeyFile and knownHostsFile")
		return
	}
	if g.SSH.PrivateKeyFile == "" {
		v.fault(under(under(key, "ssh"), "privateKeyFile"), "is required: the file of the private key")
	}
	if g.SSH.KnownHostsFile == "" {
		v.fault(under(under(key, "ssh"), "knownHostsFile"), "is required: the file of the host's keys, which `ssh-keyscan %s` prints; compare them with those that the host's owner publishes", place.Host)
	}
}

func (v *validator) gitUpdate(key string, u GitUpdate) {
	v.between(under(key, "maxBytes"), u.MaxBytes, 0, maxGitUpdateBytes)
	switch {
	case u.Enabled && u.AllowedPath == "":
		v.fault(under(key, "allowedPath"), "is required with enabled: the folder below which files may be committed, such as apps; . is the whole repository")
	case u.AllowedPath != "" && u.AllowedPath != ".":
		if err := CheckGitPath(strings.TrimSuffix(u.AllowedPath, "/")); err != nil {
			v.fault(under(key, "allowedPath"), "%v", err)
		}
	}
}

// YAMLPath is the way to a scalar in a YAML file.
type YAMLPath struct {
	// Document is what the document must hold; empty where only one document
	// may have the scalar.
	Document []YAMLCondition
	// Steps lead from the document to the scalar.
	Steps []YAMLStep
}

// YAMLStep goes down one level: by a key, into a list by an index, or into the
// one element of a list that meets the conditions.
type YAMLStep struct {
	Key        string
	Index      int
	Conditions []YAMLCondition
	// List says that Key is none.
	List bool
}

// YAMLCondition is a scalar that must have a value.
type YAMLCondition struct {
	Keys  []string
	Value string
}

// yamlPathForm is what a path looks like.
const yamlPathForm = `keys joined by dots, such as spec.replicas; [0] and [name=web] choose from a list, [kind=Deployment,metadata.name=web] in front chooses a document, and a key with other characters stands in double quotes`

// maxYAMLPath is the longest path of a scalar, in bytes.
const maxYAMLPath = 1024

// ParseYAMLPath reads a path such as
// [kind=Deployment]spec.template.spec.containers[name=web].replicas.
func ParseYAMLPath(text string) (YAMLPath, error) {
	p := pathParser{rest: text}
	found, err := p.path()
	if err == nil && len(text) > maxYAMLPath {
		err = fmt.Errorf("it is longer than %d letters", maxYAMLPath)
	}
	if err != nil {
		return YAMLPath{}, fmt.Errorf("must be %s; got %q: %w", yamlPathForm, shorten(text), err)
	}
	return found, nil
}

// pathParser holds what is yet to be read.
type pathParser struct{ rest string }

func (p *pathParser) take(prefix string) bool {
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

func (p *pathParser) path() (YAMLPath, error) {
	var found YAMLPath
	for first := true; first || p.rest != ""; first = false {
		if p.take("[") {
			step, err := p.bracket()
			if err != nil {
				return found, err
			}
			if first && step.Conditions != nil {
				found.Document = step.Conditions
				// What follows begins anew.
				if p.rest == "" {
					return found, errors.New("it chooses a document and nothing in it")
				}
				if strings.HasPrefix(p.rest, "[") {
					continue
				}
				key, err := p.key()
				if err != nil {
					return found, err
				}
				found.Steps = append(found.Steps, YAMLStep{Key: key})
				continue
			}
			found.Steps = append(found.Steps, step)
			continue
		}
		if !first && !p.take(".") {
			return found, fmt.Errorf("a dot is missing before %q", shorten(p.rest))
		}
		key, err := p.key()
		if err != nil {
			return found, err
		}
		found.Steps = append(found.Steps, YAMLStep{Key: key})
	}
	return found, nil
}

// key reads a key, bare or quoted.
func (p *pathParser) key() (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	end := strings.IndexAny(p.rest, ".[]=,\"")
	if end < 0 {
		end = len(p.rest)
	}
	key := p.rest[:end]
	p.rest = p.rest[end:]
	if key == "" || strings.TrimSpace(key) != key {
		return "", fmt.Errorf("a key is missing before %q", shorten(p.rest))
	}
	return key, nil
}

func (p *pathParser) quoted() (string, error) {
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", errors.New("a quote does not end")
	}
	p.rest = p.rest[len(quoted):]
	return strconv.Unquote(quoted)
}

// bracket reads what stands after a [ up to the ].
func (p *pathParser) bracket() (YAMLStep, error) {
	step := YAMLStep{List: true}
	if end := strings.IndexFunc(p.rest, func(r rune) bool { return r < '0' || r > '9' }); end > 0 && p.rest[end] == ']' {
		index, err := strconv.Atoi(p.rest[:end])
		p.rest = p.rest[end+1:]
		step.Index = index
		return step, err
	}
	for {
		condition, err := p.condition()
		if err != nil {
			return step, err
		}
		step.Conditions = append(step.Conditions, condition)
		if p.take("]") {
			return step, nil
		}
		if !p.take(",") {
			return step, errors.New("a ] is missing")
		}
	}
}

func (p *pathParser) condition() (YAMLCondition, error) {
	var c YAMLCondition
	for {
		key, err := p.key()
		if err != nil {
			return c, err
		}
		c.Keys = append(c.Keys, key)
		if p.take("=") {
			break
		}
		if !p.take(".") {
			return c, errors.New("a condition must be key=value")
		}
	}
	if strings.HasPrefix(p.rest, `"`) {
		value, err := p.quoted()
		c.Value = value
		return c, err
	}
	end := strings.IndexAny(p.rest, "],")
	if end <= 0 {
		return c, errors.New("a condition must be key=value")
	}
	c.Value, p.rest = p.rest[:end], p.rest[end:]
	return c, nil
}

// Interval is the least time between two commits.
func (g GitOps) Interval() time.Duration {
	if g.MinInterval == nil {
		return defaultGitInterval.Duration()
	}
	return g.MinInterval.Duration()
}
