// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation"
)

// maxOutputLimit is the highest maxOutputBytes: what the hooks of one run may
// print together.
const maxOutputLimit = 64 << 20

// Validate checks everything that can be known without a cluster. Its error is
// of the type Faults and lists every fault.
func (c Config) Validate() error { return c.faults(nil).err() }

// faults is what is wrong with the values, added to what was wrong with their
// types. A value of the wrong type is not reported a second time as missing.
func (c Config) faults(typeFaults Faults) Faults {
	v := validator{faults: typeFaults, typed: len(typeFaults)}
	v.process(c.Process)
	v.autoscaler(c.Autoscaler)
	return v.faults
}

type validator struct {
	faults Faults
	// typed counts the leading faults that are about types.
	typed int
}

// fault reports a key, unless its value was of the wrong type anyway.
func (v *validator) fault(key, format string, args ...any) {
	if !v.mistyped(key) {
		v.faults = append(v.faults, Fault{Key: key, Message: fmt.Sprintf(format, args...)})
	}
}

func (v *validator) mistyped(key string) bool {
	return slices.ContainsFunc(v.faults[:v.typed], func(f Fault) bool { return within(key, f.Key) })
}

func (v *validator) process(p Process) {
	if p.APIConfig.Enabled {
		v.api("apiConfig", p.APIConfig)
	}
	oneOf(v, "logFormat", p.LogFormat, LogText, LogJSON)
	if p.LeaderElection.Enabled {
		v.leaderElection("leaderElection", p.LeaderElection)
	}
}

// maxLeaseDuration is the longest lease: for that long a crashed leader is
// waited for.
const maxLeaseDuration = 3600

func (v *validator) leaderElection(key string, l LeaderElection) {
	v.atLeast(under(key, "retryPeriod"), int64(l.RetryPeriod), 1)
	if l.RenewDeadline <= l.RetryPeriod {
		v.fault(under(key, "renewDeadline"), "must be above retryPeriod: %d is not above %d", l.RenewDeadline, l.RetryPeriod)
	}
	if l.LeaseDuration <= l.RenewDeadline {
		v.fault(under(key, "leaseDuration"), "must be above renewDeadline: %d is not above %d", l.LeaseDuration, l.RenewDeadline)
	}
	if l.LeaseDuration > maxLeaseDuration {
		v.fault(under(key, "leaseDuration"), "must be at most %d, got %d", maxLeaseDuration, l.LeaseDuration)
	}
}

func (v *validator) api(key string, api API) {
	if api.Port < 0 || api.Port > math.MaxUint16 {
		v.fault(under(key, "port"), "must be a port from 1 to 65535, or 0 for a free one, got %d", api.Port)
	}
	if !listenable(api.Host) {
		v.fault(under(key, "host"), "must be an IP address or a host name, without a port, got %q", shorten(api.Host))
	}
	v.rateLimit(under(key, "rateLimit"), api.RateLimit)
	v.auth(under(key, "auth"), api)
	if !api.UseHTTPS {
		if api.ClientCAFile != "" {
			v.fault(under(key, "clientCAFile"), "needs useHTTPS, without which no client shows a certificate")
		}
		return
	}
	if api.CertFile == "" {
		v.fault(under(key, "certFile"), "is required with useHTTPS: the file of the certificate")
	}
	if api.KeyFile == "" {
		v.fault(under(key, "keyFile"), "is required with useHTTPS: the file of the certificate's key")
	}
}

func (v *validator) rateLimit(key string, r RateLimit) {
	for _, limit := range []struct {
		key   string
		value *int
	}{{"perCaller", r.PerCaller}, {"total", r.Total}} {
		if limit.value != nil {
			v.between(under(key, limit.key), int64(*limit.value), 0, math.MaxInt32)
		}
	}
}

func (v *validator) auth(key string, api API) {
	a := api.Auth
	audiences := under(under(key, "kubernetes"), "audiences")
	if !a.Kubernetes.Enabled && len(a.Kubernetes.Audiences) > 0 {
		v.fault(audiences, "needs kubernetes.enabled: true, without which no token is reviewed")
	}
	for i, audience := range a.Kubernetes.Audiences {
		if audience == "" {
			v.fault(at(audiences, i), "must not be empty")
		}
	}
	certificates := under(key, "certificates")
	if len(a.Certificates) > 0 && api.ClientCAFile == "" {
		v.fault(certificates, "needs apiConfig.clientCAFile: the file of the authorities that issue the certificates")
	}
	if !v.atMost(certificates, len(a.Certificates), maxCertificates) {
		return
	}
	for i, certificate := range a.Certificates {
		v.certificate(at(certificates, i), certificate)
		same := func(c CertificateAuth) bool { return c.Name == certificate.Name }
		if first := slices.IndexFunc(a.Certificates, same); first < i && certificate.Name != "" {
			v.fault(under(at(certificates, i), "name"), "must be in one entry only: it is that of %s, too", at(certificates, first))
		}
	}
}

// maxCertificates bounds what every certificate is compared with.
const maxCertificates = 1000

func (v *validator) certificate(key string, c CertificateAuth) {
	if c.Name == "" {
		v.fault(under(key, "name"), "is required: the common name, a DNS name or a URI of a certificate, or * for any")
	}
	oneOf(v, under(key, "role"), c.Role, RoleRead, RoleOperate, RoleConfigure)
}

// listenable says whether a host can be listened on. Empty is every address,
// and an IPv6 address may stand in brackets.
func listenable(host string) bool {
	if unbracketed, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(unbracketed, "]")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.ContainsAny(host, ":/[] \t\r\n")
}

func (v *validator) autoscaler(a Autoscaler) {
	v.target(a)
	v.methods(a)
	v.replicas(a.MinReplicas, a.MaxReplicas)
	oneOf(v, "runMode", a.RunMode, PerPod, PerResource)
	v.between("gatherConcurrency", int64(a.GatherConcurrency), 0, maxConcurrency)
	oneOf(v, "onPodFailure", a.OnPodFailure, PodFailureFail, PodFailureSkip)
	v.duration("interval", int64(a.Interval), 1, time.Millisecond)
	v.duration("startTime", int64(a.StartTime), 1, time.Millisecond)
	if a.DownscaleStabilization != nil {
		v.duration("downscaleStabilization", int64(*a.DownscaleStabilization), 0, time.Second)
	}
	v.duration("initialReadinessDelay", int64(a.InitialReadinessDelay), 0, time.Second)
	v.duration("cpuInitializationPeriod", int64(a.CPUInitializationPeriod), 0, time.Second)
	if a.MaxOutputBytes < 1 || a.MaxOutputBytes > maxOutputLimit {
		v.fault("maxOutputBytes", "must be from 1 to %d (64 MiB), got %d", maxOutputLimit, a.MaxOutputBytes)
	}
	v.behavior("behavior", a)
	v.schedules("schedules", a.Schedules)
	if a.Fallback != nil {
		v.fallback("fallback", *a.Fallback, a.MinReplicas, a.MaxReplicas)
	}
	v.state("state", a.State)
	if a.GitOps != nil {
		v.gitOps("gitOps", a.GitOps)
	}
	for i := range a.KubernetesMetricSpecs {
		v.metricSpec(at("kubernetesMetricSpecs", i), &a.KubernetesMetricSpecs[i])
	}
}

func (v *validator) target(a Autoscaler) {
	if a.Namespace == "" {
		v.fault("namespace", "must not be empty")
	} else {
		v.kubernetesName("namespace", a.Namespace, validation.IsDNS1123Label)
	}
	if a.ScaleTargetRef == (autoscalingv2.CrossVersionObjectReference{}) {
		v.fault("scaleTargetRef", "is required: apiVersion, kind and name of what is scaled")
		return
	}
	v.reference("scaleTargetRef", a.ScaleTargetRef)
	switch version := a.ScaleTargetRef.APIVersion; {
	case version == "":
		v.fault("scaleTargetRef.apiVersion", "is required, such as apps/v1")
	case strings.Count(version, "/") > 1 || strings.ContainsAny(version, " \t\r\n"):
		v.fault("scaleTargetRef.apiVersion", "must be of the form group/version, such as apps/v1, got %q", shorten(version))
	}
	if name := a.ScaleTargetRef.Name; name != "" {
		v.kubernetesName("scaleTargetRef.name", name, validation.IsDNS1123Subdomain)
	}
}

// reference checks what every reference to an object needs.
func (v *validator) reference(key string, ref autoscalingv2.CrossVersionObjectReference) {
	if ref.Kind == "" {
		v.fault(under(key, "kind"), "is required, such as Deployment")
	}
	if ref.Name == "" {
		v.fault(under(key, "name"), "is required")
	}
}

// kubernetesName reports a name that no object can have.
func (v *validator) kubernetesName(key, name string, reasons func(string) []string) {
	if found := reasons(name); len(found) > 0 {
		v.fault(key, "%q is no name Kubernetes allows: %s", shorten(name), found[0])
	}
}

func (v *validator) replicas(least, most int32) {
	v.atLeast("minReplicas", int64(least), 0)
	v.atLeast("maxReplicas", int64(most), 0)
	if least > most && most >= 0 && !v.mistyped("maxReplicas") {
		v.fault("minReplicas", "must not be above maxReplicas: %d is above %d", least, most)
	}
}

func (v *validator) fallback(key string, f Fallback, least, most int32) {
	if f.FailureThreshold == 0 {
		v.fault(under(key, "failureThreshold"), "is required: how many runs in a row must fail, such as 3")
	} else {
		v.atLeast(under(key, "failureThreshold"), int64(f.FailureThreshold), 1)
	}
	oneOf(v, under(key, "behavior"), f.Behavior, FallbackStatic, FallbackCurrent, FallbackCurrentIfHigher, FallbackCurrentIfLower)
	boundsAreFaulty := slices.ContainsFunc(v.faults, func(f Fault) bool { return f.Key == "minReplicas" || f.Key == "maxReplicas" })
	switch {
	case f.Replicas == nil && f.Behavior != FallbackCurrent:
		v.fault(under(key, "replicas"), "is required: the count to fall back to, from minReplicas to maxReplicas")
	case f.Replicas == nil || boundsAreFaulty:
	case *f.Replicas < least || *f.Replicas > most:
		v.fault(under(key, "replicas"), "must be from %d to %d, which are minReplicas and maxReplicas, got %d", least, most, *f.Replicas)
	}
}

func (v *validator) state(key string, s State) {
	if !oneOf(v, under(key, "store"), s.Store, StateNone, StateFile, StateConfigMap) {
		return
	}
	switch {
	case s.Store == StateFile && s.Path == "":
		v.fault(under(key, "path"), "is required with the store file: the file to write")
	case s.Store != StateFile && s.Path != "":
		v.fault(under(key, "path"), "must be left out with the store %s: it is for the store file", s.Store)
	}
}

func (v *validator) atLeast(key string, value, least int64) {
	if value < least {
		v.fault(key, "must be at least %d, got %d", least, value)
	}
}

func (v *validator) between(key string, value, least, most int64) {
	if value < least || value > most {
		v.fault(key, "must be from %d to %d, got %d", least, most, value)
	}
}

// atMost checks the length of a list.
func (v *validator) atMost(key string, length, most int) bool {
	if length > most {
		v.fault(key, "must hold at most %d elements, got %d", most, length)
	}
	return length <= most
}

// duration checks a whole number of units that becomes a time.Duration.
func (v *validator) duration(key string, value, least int64, unit time.Duration) {
	v.atLeast(key, value, least)
	if most := math.MaxInt64 / int64(unit); value > most {
		v.fault(key, "must be at most %d, got %d", most, value)
	}
}

// oneOf checks a word against the known ones.
func oneOf[T ~string](v *validator, key string, value T, known ...T) bool {
	if slices.Contains(known, value) {
		return true
	}
	quoted := make([]string, len(known))
	for i, k := range known {
		quoted[i] = fmt.Sprintf("%q", string(k))
	}
	last := len(quoted) - 1
	list := quoted[last]
	if last > 0 {
		list = strings.Join(quoted[:last], ", ") + " or " + list
	}
	if value == "" {
		v.fault(key, "is required: %s", list)
	} else {
		v.fault(key, "must be %s, got %q", list, shorten(string(value)))
	}
	return false
}

// hook is a method with the key it is configured under.
type hook struct {
	key      string
	method   *Method
	required bool
}

// hooks lists all methods, set or not.
func (a *Autoscaler) hooks() []hook {
	return []hook{
		{key: "metric", method: a.Metric, required: true},
		{key: "evaluate", method: a.Evaluate, required: true},
		{key: "preMetric", method: a.PreMetric},
		{key: "postMetric", method: a.PostMetric},
		{key: "preEvaluate", method: a.PreEvaluate},
		{key: "postEvaluate", method: a.PostEvaluate},
		{key: "preScale", method: a.PreScale},
		{key: "postScale", method: a.PostScale},
	}
}

// LongestTimeout is the longest that one call of any of the methods may take.
func (a *Autoscaler) LongestTimeout() time.Duration {
	var longest Milliseconds
	for _, hook := range a.hooks() {
		if hook.method != nil {
			longest = max(longest, hook.method.Timeout)
		}
	}
	return longest.Duration()
}

func (v *validator) methods(a Autoscaler) {
	var workers []hook
	for _, hook := range a.hooks() {
		switch {
		case hook.method != nil:
			v.method(hook.key, hook.method)
			if hook.method.Type == MethodWorker && hook.method.Worker != nil {
				v.shared(hook, workers)
				workers = append(workers, hook)
			}
		case hook.required:
			v.fault(hook.key, "is required: the method that runs it, such as {type: shell, shell: {entrypoint: ...}}")
		}
	}
}

func (v *validator) method(key string, m *Method) {
	v.duration(under(key, "timeout"), int64(m.Timeout), 0, time.Millisecond)
	if !oneOf(v, under(key, "type"), m.Type, MethodShell, MethodWorker, MethodHTTP) {
		return
	}
	switch block := under(key, string(m.Type)); {
	case m.Type == MethodShell && m.Shell != nil:
		v.program(block, m.Shell.Entrypoint, m.Shell.Command)
	case m.Type == MethodWorker && m.Worker != nil:
		v.worker(block, m.Worker)
	case m.Type == MethodHTTP && m.HTTP != nil:
		v.http(block, m.HTTP)
	default:
		v.fault(block, "is required for a method of the type %s%s", m.Type, m.misplaced())
	}
}

// misplaced is the remedy when a method has another type's block.
func (m *Method) misplaced() string {
	for _, other := range []struct {
		block MethodType
		given bool
	}{{MethodShell, m.Shell != nil}, {MethodWorker, m.Worker != nil}, {MethodHTTP, m.HTTP != nil}} {
		if other.given {
			return fmt.Sprintf("; there is a block %s: rename it, or correct the type", other.block)
		}
	}
	return ""
}

// The most of what a worker or a gathering does at once. More has never been of
// use; a number that was mistyped should not start a thousand interpreters.
const (
	maxProcesses   = 64
	maxConcurrency = 1024
)

func (v *validator) worker(key string, w *Worker) {
	v.program(key, w.Entrypoint, w.Command)
	v.between(under(key, "processes"), int64(w.Processes), 0, maxProcesses)
	v.between(under(key, "maxInFlight"), int64(w.MaxInFlight), 0, maxConcurrency)
	v.atLeast(under(key, "maxRequests"), int64(w.MaxRequests), 0)
}

// shared checks that a worker whose processes another method has too wants them
// to be the same.
func (v *validator) shared(one hook, others []hook) {
	w := one.method.Worker
	for _, other := range others {
		o := other.method.Worker
		if o.Entrypoint != w.Entrypoint || !slices.Equal(o.Command, w.Command) {
			continue
		}
		for _, setting := range []struct {
			key         string
			here, there int
		}{
			{"processes", w.Processes, o.Processes},
			{"maxInFlight", w.MaxInFlight, o.MaxInFlight},
			{"maxRequests", w.MaxRequests, o.MaxRequests},
		} {
			if setting.here != setting.there {
				v.fault(under(under(one.key, "worker"), setting.key), "must be that of %s, %d, whose processes it shares since their commands are the same; got %d",
					under(under(other.key, "worker"), setting.key), setting.there, setting.here)
			}
		}
		return
	}
}

func (v *validator) program(key, entrypoint string, command []string) {
	if entrypoint == "" {
		v.fault(under(key, "entrypoint"), "is required: the program to run")
	}
	for i, text := range append([]string{entrypoint}, command...) {
		if !strings.ContainsRune(text, 0) {
			continue
		}
		part := under(key, "entrypoint")
		if i > 0 {
			part = at(under(key, "command"), i-1)
		}
		v.fault(part, "must not hold a NUL character, which no program can be given")
	}
}

func (v *validator) http(key string, h *HTTP) {
	if h.Method != "" && !isToken(h.Method) {
		v.fault(under(key, "method"), "must be a request method such as GET or POST, got %q", shorten(h.Method))
	}
	v.url(under(key, "url"), h.URL)
	v.headers(under(key, "headers"), h.Headers)
	v.successCodes(under(key, "successCodes"), h.SuccessCodes)
	oneOf(v, under(key, "parameterMode"), h.ParameterMode, ParameterQuery, ParameterBody)
	if h.ClientCert != "" && h.ClientKey == "" {
		v.fault(under(key, "clientKey"), "is required with clientCert: the file of the certificate's key")
	}
	if h.ClientKey != "" && h.ClientCert == "" {
		v.fault(under(key, "clientCert"), "is required with clientKey: the file of the certificate")
	}
}

func (v *validator) url(key, text string) {
	if text == "" {
		v.fault(key, "is required")
		return
	}
	// The URL itself is not shown: it may carry a password or a token.
	parsed, err := url.Parse(text)
	var reason *url.Error
	switch {
	case errors.As(err, &reason):
		v.fault(key, "must be a URL: %v", reason.Err)
	case err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		v.fault(key, "must be a whole URL: http:// or https://, then a host")
	}
}

func (v *validator) headers(key string, headers map[string]string) {
	for name, value := range headers {
		if !isToken(name) {
			v.fault(under(key, name), "is no name a header can have")
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			v.fault(under(key, name), "must not hold line breaks or other control characters")
		}
	}
}

func (v *validator) successCodes(key string, codes []int) {
	if len(codes) == 0 {
		v.fault(key, "is required: the status codes that mean success, such as [200]")
	}
	for i, code := range codes {
		if code < 100 || code > 599 {
			v.fault(at(key, i), "must be a status code from 100 to 599, got %d", code)
		}
	}
}

// isToken says whether text is a token as HTTP defines it (RFC 9110, 5.6.2).
func isToken(text string) bool {
	for _, r := range text {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) {
			return false
		}
	}
	return text != ""
}
