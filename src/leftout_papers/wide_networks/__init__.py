"""A review of wide networks as linear models and of kernel eigenvalues that predict errors, run again."""
