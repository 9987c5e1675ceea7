"""Linear algebra on Gram matrices: factors, spectra, resolvents, Krylov spaces."""
