// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The trailers of each commit, for programs.
const (
	trailerObject   = "CPA-Object"
	trailerDecision = "CPA-Decision-Id"
	trailerBy       = "CPA-Requested-By"
	trailerReason   = "CPA-Reason"
	trailerReplicas = "CPA-Replicas"
	trailerMin      = "CPA-Min-Replicas"
	trailerMax      = "CPA-Max-Replicas"
)

// maxReason is how much of a reason a commit holds, in letters.
const maxReason = 500

// oneLine makes text fit for a line of a message, so that it can forge no
// trailer: control characters and line breaks of any kind become spaces.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if letters := []rune(text); len(letters) > maxReason {
		return string(letters[:maxReason]) + "..."
	}
	return text
}

// trailerish takes its look away from a line of the body that looks like one of
// our trailers.
func trailerish(body string) string {
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.ToLower(line), "cpa-") {
			lines[i] = "> " + line
		}
	}
	return strings.Join(lines, "\n")
}

// message is what the commit of a count says.
func (r *Repository) message(w Wanted, changes []change) string {
	words := make([]string, len(changes))
	for i, c := range changes {
		words[i] = c.String()
	}
	to := w.From
	if w.Replicas != nil {
		to = *w.Replicas
	}
	text := strings.NewReplacer(
		"{id}", oneLine(r.id),
		"{change}", strings.Join(words, ", "),
		"{from}", strconv.Itoa(int(w.From)),
		"{to}", strconv.Itoa(int(to)),
		"{reason}", oneLine(w.Reason),
	).Replace(r.config.Message)
	trailers := []string{trailerObject + ": " + oneLine(r.id), trailerDecision + ": " + w.ID}
	if reason := oneLine(w.Reason); reason != "" {
		trailers = append(trailers, trailerReason+": "+reason)
	}
	for _, c := range changes {
		switch c.name {
		case nameReplicas:
			trailers = append(trailers, fmt.Sprintf("%s: %d -> %d", trailerReplicas, w.From, c.to))
		case nameMin:
			trailers = append(trailers, fmt.Sprintf("%s: %d -> %d", trailerMin, c.from, c.to))
		case nameMax:
			trailers = append(trailers, fmt.Sprintf("%s: %d -> %d", trailerMax, c.from, c.to))
		}
	}
	return r.compose(text, trailers)
}

// compose puts a message together: the text, and the trailers in a paragraph of
// their own at the end.
func (r *Repository) compose(text string, trailers []string) string {
	first, body, _ := strings.Cut(strings.TrimSpace(text), "\n")
	first = strings.TrimSpace(first)
	if r.config.SkipCI {
		first += " [skip ci]"
	}
	paragraphs := []string{first}
	if body = strings.TrimSpace(trailerish(body)); body != "" {
		paragraphs = append(paragraphs, body)
	}
	return strings.Join(append(paragraphs, strings.Join(trailers, "\n")), "\n\n") + "\n"
}

// trailer is the value of a trailer of a message; empty if it has none. Only
// the last paragraph holds trailers.
func trailer(message, name string) string {
	message = strings.TrimSpace(message)
	last := message[strings.LastIndex(message, "\n\n")+1:]
	for line := range strings.SplitSeq(last, "\n") {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return value
		}
	}
	return ""
}
