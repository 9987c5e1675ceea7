"""Linear algebra on kernel matrices: factorisations, spectra, resolvents, Krylov spaces."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.solvers.cholesky import factor_cholesky as factor_cholesky
    from leftout.solvers.indefinite import factor_indefinite as factor_indefinite
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
