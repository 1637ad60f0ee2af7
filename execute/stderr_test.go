// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestTail(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxTail)
	for _, test := range []struct {
		name   string
		writes []string
		want   string
	}{
		{"nothing", nil, ""},
		{"a little", []string{"a", "b\n"}, "ab\n"},
		{"exactly all", []string{full}, full},
		{"one more", []string{"a", full}, full},
		{"the old goes", []string{full, "the end"}, full[:maxTail-7] + "the end"},
		{"a cut rune goes", []string{"é", full[1:]}, full[1:]},
		{"a whole rune stays", []string{"aé", full[2:]}, "é" + full[2:]},
		{"bad bytes stay few", []string{"a\xff\xfeb"}, "a?b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var end tail
			for _, text := range test.writes {
				if n, err := end.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
			}
			if diff := cmp.Diff(test.want, end.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestForEachLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"lines", "a\nb\n", []string{"a", "b"}},
		{"no end", "a\nb", []string{"a", "b"}},
		{"empty lines are left out", "\n\na\n\r\n\n", []string{"a"}},
		{"from Windows", "a\r\nb\r\n", []string{"a", "b"}},
		{"bad bytes", "a\xffb\n", []string{"a?b"}},
		{"as long as may be", long + "\n", []string{long}},
		{"too long", long + "y\nz", []string{long, "y", "z"}},
		{"not cut in a rune", long[1:] + "é\n", []string{long[1:], "é"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			forEachLine(iotest.HalfReader(strings.NewReader(test.text)), func(line string) { got = append(got, line) })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("some text\n"), 1000)
	f.Add([]byte("é€😀"), 3000)
	f.Add([]byte("\xff\x80a"), 10000)
	f.Fuzz(func(t *testing.T, piece []byte, times int) {
		times = min(max(times, 0), 4*maxTail)
		var end tail
		for range times {
			_, _ = end.Write(piece)
		}
		all, got := string(bytes.Repeat(piece, times)), end.String()
		if len(got) > maxTail || !utf8.ValidString(got) {
			t.Fatalf("%d bytes, valid UTF-8: %t", len(got), utf8.ValidString(got))
		}
		if utf8.ValidString(all) && (!strings.HasSuffix(all, got) || len(got) < min(len(all), maxTail-utf8.UTFMax+1)) {
			t.Fatalf("%q is not the end of %q", got, all)
		}
	})
}

func FuzzForEachLine(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n"), 2)
	f.Add([]byte("é€😀"), 4000)
	f.Add([]byte("\xff\x80\xf0\x9f"), 5000)
	f.Fuzz(func(t *testing.T, piece []byte, times int) {
		all := bytes.Repeat(piece, min(max(times, 0), 4*maxLine))
		var got strings.Builder
		forEachLine(bytes.NewReader(all), func(line string) {
			if line == "" || len(line) > maxLine || !utf8.ValidString(line) {
				t.Fatalf("%d bytes, valid UTF-8: %t", len(line), utf8.ValidString(line))
			}
			got.WriteString(line)
		})
		if want := strings.ReplaceAll(string(all), "\n", ""); utf8.Valid(all) && !bytes.Contains(all, []byte("\r")) && got.String() != want {
			t.Fatalf("got %q, want %q", got.String(), want)
		}
	})
}
