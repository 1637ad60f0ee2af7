// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/rotate"
)

const (
	// maxTokens bounds what every token that is shown is compared with.
	maxTokens = 1000
	// maxHolder bounds a holder's name, in characters.
	maxHolder = 128
)

// tokenFile is a file of tokens that give one role.
type tokenFile struct {
	role   config.Role
	tokens *rotate.Value[[]token]
}

// token is one that somebody holds. The token itself is not kept.
type token struct {
	sum    digest
	holder string
}

// openTokens reads the files that are configured, those of the lowest role
// first.
func openTokens(c config.TokenAuth, log *slog.Logger) ([]*tokenFile, error) {
	var files []*tokenFile
	for _, file := range []struct {
		role      config.Role
		key, path string
	}{
		{config.RoleRead, "readFile", c.ReadFile},
		{config.RoleOperate, "operateFile", c.OperateFile},
		{config.RoleConfigure, "configureFile", c.ConfigureFile},
	} {
		if file.path == "" {
			continue
		}
		key := "apiConfig.auth.token." + file.key
		tokens, err := rotate.New(log, func(contents [][]byte) ([]token, error) {
			tokens, err := parseTokens(string(contents[0]), file.key)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %s: %w", key, file.path, err)
			}
			return tokens, nil
		}, rotate.File{Key: key, Path: file.path})
		if err != nil {
			return nil, err
		}
		files = append(files, &tokenFile{role: file.role, tokens: tokens})
	}
	return files, nil
}

// parseTokens reads a token a line, with its holder behind a space. Empty lines
// do not count. Who has no name is called by the key and the line. Errors show
// nothing of a line.
func parseTokens(content, key string) ([]token, error) {
	var tokens []token
	number := 0
	for line := range strings.Lines(content) {
		number++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		text, holder, _ := strings.Cut(line, " ")
		holder = strings.TrimSpace(holder)
		switch {
		case !isToken(text):
			return nil, fmt.Errorf("line %d: a token holds letters, digits and -._~+/ only, with = at its end", number)
		case utf8.RuneCountInString(holder) > maxHolder || strings.ContainsFunc(holder, unprintable):
			return nil, fmt.Errorf("line %d: the holder's name must be up to %d printable characters", number, maxHolder)
		case len(tokens) == maxTokens:
			return nil, fmt.Errorf("it holds more than %d tokens", maxTokens)
		case holder == "":
			holder = fmt.Sprintf("%s:%d", key, number)
		}
		tokens = append(tokens, token{sum: sha256.Sum256([]byte(text)), holder: holder})
	}
	if len(tokens) == 0 {
		return nil, errors.New("it holds no token: write one a line")
	}
	return tokens, nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// inFiles is the caller who holds the token of a digest. A token in several
// files has the highest of their roles. A file that is of no use now gives
// nobody anything: what was taken out of it must not go on counting.
func (a *Authenticator) inFiles(sum digest) (caller Caller, ok bool) {
	for _, file := range a.files {
		tokens, err := file.tokens.Current()
		if err != nil {
			continue
		}
		if found, match := find(tokens, sum, subtle.ConstantTimeCompare); match {
			caller, ok = Caller{name: "token:" + found.holder, role: file.role}, true
		}
	}
	return caller, ok
}

// find is the last token with a digest. It compares all of them, so that the
// time it takes tells nothing of where one is.
func find(tokens []token, sum digest, equal func(a, b []byte) int) (found token, ok bool) {
	index := -1
	for i := range tokens {
		index = subtle.ConstantTimeSelect(equal(tokens[i].sum[:], sum[:]), i, index)
	}
	if index < 0 {
		return token{}, false
	}
	return tokens[index], true
}
