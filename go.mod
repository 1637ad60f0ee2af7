module github.com/custom-pod-autoscaler/custom-pod-autoscaler

go 1.26.0
