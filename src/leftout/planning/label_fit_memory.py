"""Bytes of a kernel that is fitted to labels, and how many models without an example are made of it."""

from leftout.attribution.engine.refit_each import models_bytes
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.planning.planned_audit import PlannedAudit

MATRICES = 12
"""Matrices of n² numbers: pairs, those of a subset of them, and temporaries."""


def stays(kernel: LabelDependentKernel) -> bool:
    """Return whether the kernel is the same when an example is left out."""
    return kernel.frozen or (isinstance(kernel, LabelAware) and kernel.strength == 0)


def fits_without_each(kernel: LabelDependentKernel, audit: PlannedAudit) -> int:
    """Return how often the kernel is fitted to the labels of all examples but one: 0 where it stays."""
    return 0 if stays(kernel) else audit.n * sum(time > 0 for time in audit.times)


def label_fit_bytes(kernel: LabelDependentKernel, audit: PlannedAudit) -> int:
    """Return the bytes of fitting to labels, with the models that are kept of each time."""
    models = max(1, fits_without_each(kernel, audit) // audit.n)
    return 8 * audit.n**2 * MATRICES + models_bytes(audit.n, audit.k) * models
