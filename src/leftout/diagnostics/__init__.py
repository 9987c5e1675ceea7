"""What can be trusted, and what can be known about it: bounds, complexity, retraining, agreement."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.diagnostics.eigenlearning.domain_spectra import DomainSpectrum as DomainSpectrum
    from leftout.diagnostics.eigenlearning.domain_spectra import domain_spectrum as domain_spectrum
    from leftout.diagnostics.eigenlearning.transfer import transfer_derivatives as transfer_derivatives
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
