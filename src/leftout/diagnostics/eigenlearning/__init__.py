"""What a kernel learns with n examples, from its eigenvalues."""
