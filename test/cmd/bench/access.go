// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// access is how a program finds the API server: as in a pod where that can be
// arranged, since some know no other way, else by a kubeconfig. All programs of
// a call are given the same.
type access struct {
	inCluster bool
	// why there is no access as in a pod.
	why string
}

func (a access) String() string {
	if a.inCluster {
		return "the service account of a pod"
	}
	return "KUBECONFIG, which not every program reads (" + a.why + ")"
}

// serviceAccountFolder is where a pod finds its service account, below
// /var/run.
const serviceAccountFolder = "secrets/kubernetes.io/serviceaccount"

// The scripts that become the program, $2 and what follows. Both tell the
// moment by a line on descriptor 3. asInPod first puts the folder $1 in place of
// /var/run, in a mount namespace of its own: nobody else sees that, and it is
// gone with the program.
const (
	asInPod      = `mount --bind "$1" /var/run && shift && echo >&3 && exec "$@" 3>&-`
	byKubeconfig = `shift && echo >&3 && exec "$@" 3>&-`
)

var ownMounts = []string{"unshare", "--mount", "--propagation", "private"}

// wrap is the command line that becomes the program file. The process keeps its
// ID all the way.
func (a access) wrap(run, file string) []string {
	if a.inCluster {
		return slices.Concat(ownMounts, []string{"sh", "-c", asInPod, "bench", run, file})
	}
	return []string{"sh", "-c", byKubeconfig, "bench", run, file}
}

// findAccess tries whether a folder can be put in place of /var/run.
func findAccess(ctx context.Context, directory string) access {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return access{why: "only root on Linux can give a program the files of a pod"}
	}
	run := filepath.Join(directory, "probe")
	if err := writeServiceAccount(run, nil); err != nil {
		return access{why: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The folder of the bench must still be seen where it is.
	const script = `mount --bind "$1" /var/run && [ -r /var/run/"$2"/token ] && [ -d "$1" ]`
	probe := slices.Concat(ownMounts, []string{"sh", "-c", script, "bench", run, serviceAccountFolder})
	if output, err := exec.CommandContext(ctx, probe[0], probe[1:]...).CombinedOutput(); err != nil {
		return access{why: fmt.Sprintf("a mount namespace cannot be made here: %v: %s", err, bytes.TrimSpace(output))}
	}
	return access{inCluster: true}
}

// writeServiceAccount writes the files of a pod's service account below run.
func writeServiceAccount(run string, authority []byte) error {
	folder := filepath.Join(run, serviceAccountFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making a service account: %w", err)
	}
	for name, content := range map[string][]byte{
		// The proxy does not look at the token.
		"token": []byte("bench"), "ca.crt": authority, "namespace": []byte(namespace),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return fmt.Errorf("making a service account: %w", err)
		}
	}
	return nil
}

// lead writes below directory what leads to the proxy, and returns the
// variables that a program needs with it, and the folder for wrap.
func (a access) lead(directory string, p *proxy) (environment []string, run string, err error) {
	run = filepath.Join(directory, "run")
	if a.inCluster {
		environment = []string{"KUBERNETES_SERVICE_HOST=" + loopback, "KUBERNETES_SERVICE_PORT=" + strconv.Itoa(p.port)}
		return environment, run, writeServiceAccount(run, p.identity.authority)
	}
	kubeconfig := filepath.Join(directory, "kubeconfig")
	return []string{"KUBECONFIG=" + kubeconfig}, run, clientcmd.WriteToFile(api.Config{
		Clusters:       map[string]*api.Cluster{"bench": {Server: p.url(), CertificateAuthorityData: p.identity.authority}},
		AuthInfos:      map[string]*api.AuthInfo{"bench": {Token: "bench"}},
		Contexts:       map[string]*api.Context{"bench": {Cluster: "bench", AuthInfo: "bench"}},
		CurrentContext: "bench",
	}, kubeconfig)
}
