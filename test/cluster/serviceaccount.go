// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd/api"
)

// ServiceAccountToken returns a token of a service account that is good for an
// hour, and creates the account if it is not there. With CAFile and Address it
// is all that a pod has to reach the API server. What the account may do is
// for its RoleBindings to say; at first nothing.
func (c *Cluster) ServiceAccountToken(ctx context.Context, namespace, name string) (string, error) {
	accounts := c.client.CoreV1().ServiceAccounts(namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("creating the service account %s/%s: %w", namespace, name, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600))}}
	answer, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of the service account %s/%s: %w", namespace, name, err)
	}
	return answer.Status.Token, nil
}

// WriteServiceAccountKubeconfig writes a kubeconfig whose user is a service
// account and whose default namespace is that account's.
func (c *Cluster) WriteServiceAccountKubeconfig(ctx context.Context, file, namespace, name string) error {
	token, err := c.ServiceAccountToken(ctx, namespace, name)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(c.CAFile())
	if err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", file, err)
	}
	return writeKubeconfig(file, c.config.Host, ca, namespace, &api.AuthInfo{Token: token})
}
