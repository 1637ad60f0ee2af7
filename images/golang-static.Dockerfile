# The runtime alone, for hooks that are static binaries: no shell, no libraries.
# The base only lends its certificate authorities.
ARG BASE=alpine:3

FROM ${BASE} AS base

FROM scratch AS root
ARG TARGETARCH
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Custom Pod Autoscaler" \
      org.opencontainers.image.description="Scales a Kubernetes workload by the user's own logic" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY rootfs/ /
WORKDIR /app
COPY linux/${TARGETARCH}/custom-pod-autoscaler /app/custom-pod-autoscaler
ENV PATH="/app"
CMD ["/app/custom-pod-autoscaler"]

# A number, since Kubernetes' runAsNonRoot cannot check a name.
FROM root AS nonroot
USER 65532:65532
