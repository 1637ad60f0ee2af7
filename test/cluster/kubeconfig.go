// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// writeAdminKubeconfig writes the kubeconfig of the administrator.
func (c *Cluster) writeAdminKubeconfig() error {
	var contents [3][]byte
	for i, file := range []string{c.CAFile(), c.file(adminName + ".crt"), c.file(adminName + ".key")} {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("writing the kubeconfig: %w", err)
		}
		contents[i] = content
	}
	server := "https://" + net.JoinHostPort(c.Address())
	user := &api.AuthInfo{ClientCertificateData: contents[1], ClientKeyData: contents[2]}
	return writeKubeconfig(c.KubeconfigFile(), server, contents[0], metav1.NamespaceDefault, user)
}

// writeKubeconfig writes a kubeconfig that carries the credentials themselves,
// so that it can be copied elsewhere.
func writeKubeconfig(file, server string, ca []byte, namespace string, user *api.AuthInfo) error {
	const name = "local"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[name] = user
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", file, err)
	}
	return nil
}

// adminConfig reads a kubeconfig and lifts client-go's limit on requests,
// which tests would only wait for.
func adminConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	return config, nil
}
