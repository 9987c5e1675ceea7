"""Linear algebra on kernel matrices: factorisations, spectra, resolvents, Krylov spaces."""
