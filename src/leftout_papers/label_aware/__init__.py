"""Label-aware neural tangent kernels, exhibit by exhibit."""
