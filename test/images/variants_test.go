// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// variants are the images that people are promised.
var variants = []string{
	"alpine", "debian-slim", "python", "python-3-13", "python-3-12", "node", "openjdk", "golang-static",
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Every image of the table builds for both platforms, and says and holds what
// people's Dockerfiles rely on. The base has nothing that a program could use,
// so that what runs on it needs nothing.
func TestVariants(t *testing.T) {
	const base = "localhost/tiny"
	var ofPlatforms []string
	for architecture := range machines {
		image := base + ":" + architecture
		images.scratch(t, image, architecture, tiny(t))
		ofPlatforms = append(ofPlatforms, image)
	}
	images.buildah(t, append([]string{"manifest", "create", base}, ofPlatforms...)...)
	// No names: all there are.
	images.make(t, base, "linux/amd64,linux/arm64")

	for _, variant := range variants {
		for suffix, user := range map[string]string{"": "", "-nonroot": "65532:65532"} {
			image := "custom-pod-autoscaler/" + variant + ":" + tag + suffix
			t.Run(variant+suffix, func(t *testing.T) {
				for architecture := range machines {
					checkImage(t, image, architecture, user)
				}
				if variant == "golang-static" {
					checkFiles(t, image)
				}
				runsHere(t, image)
			})
		}
	}
}

// tiny is the content of a base: what golang-static takes, and nothing else.
func tiny(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	certificates := filepath.Join(directory, "etc", "ssl", "certs")
	if err := os.MkdirAll(certificates, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(certificates, "ca-certificates.crt"), []byte("authorities"), 0o644); err != nil {
		t.Fatal(err)
	}
	return directory
}

// checkImage checks what the image of one platform says, and its program.
func checkImage(t *testing.T, image, architecture, user string) {
	t.Helper()
	image += "-" + architecture
	got := images.inspect(t, image)
	labels := got.Config.Labels
	got.Config.Labels = nil
	want := description{Architecture: architecture}
	want.Config.User = user
	want.Config.Cmd = []string{"/app/custom-pod-autoscaler"}
	want.Config.WorkingDir = "/app"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", image, diff)
	}
	for label, want := range map[string]string{"version": version, "licenses": "Apache-2.0", "title": "Custom Pod Autoscaler"} {
		if got := labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("%s has the %s %q, want %q", image, label, got, want)
		}
	}

	_, files := images.container(t, image, architecture)
	program, err := elf.Open(filepath.Join(files, "app", "custom-pod-autoscaler"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if program.Machine != machines[architecture] {
		t.Errorf("the program of %s is for %s", image, program.Machine)
	}
}

// checkFiles checks what an image without a base must bring itself.
func checkFiles(t *testing.T, image string) {
	t.Helper()
	_, files := images.container(t, image, runtime.GOARCH)
	temporary, err := os.Stat(filepath.Join(files, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := temporary.Mode(); mode != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("/tmp has the mode %v, so not everybody can write there", mode)
	}
	authorities, err := os.ReadFile(filepath.Join(files, "etc", "ssl", "certs", "ca-certificates.crt"))
	if err != nil || string(authorities) != "authorities" {
		t.Errorf("the certificate authorities are %q (%v), want those of the base", authorities, err)
	}
}

// runsHere runs the image of this machine's platform, found through the index.
func runsHere(t *testing.T, image string) {
	t.Helper()
	container, _ := images.container(t, image, runtime.GOARCH)
	if got := images.buildah(t, "run", container, "--", "/app/custom-pod-autoscaler", "version"); got != version {
		t.Errorf("the program of %s says its version is %q, want %q", image, got, version)
	}
}
