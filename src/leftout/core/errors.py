"""Errors and warnings; each message names the argument, the rule, what was given, and what to do.

Every error of this package is a `LeftoutError` and a `ValueError`. The command line prints its message
and exits with status 2.
"""


class LeftoutError(ValueError):
    """An error that the caller can correct; the message says how."""


class ShapeError(LeftoutError):
    """An array does not have the shape that the other arguments require."""


class OptionError(LeftoutError):
    """An option has a value that is not allowed."""


class DataError(LeftoutError):
    """A file or an array cannot be used: missing, truncated, NaN, wrong type."""


class NotPositiveError(LeftoutError):
    """A matrix that must be positive (semi-)definite is not. No jitter is ever added."""


class DivergenceError(LeftoutError):
    """Training with these settings does not converge; the message names the critical rate."""


class SolveError(LeftoutError):
    """A linear system was not solved; the message says why the solver stopped and what to try."""


class MemoryBudgetError(LeftoutError):
    """A computation would need more memory than its budget."""


class ApproximationError(LeftoutError):
    """An approximation is further from what is exact than was asked for; the message has the number."""


class StoreError(LeftoutError):
    """A saved result is incomplete, of another version, or of another computation."""


class NotConvergedWarning(UserWarning):
    """Training or a solve stopped before its tolerance; the results are returned."""


class ExpansionWarning(UserWarning):
    """The results are those of an expansion whose next terms are not small here."""


class LoopWarning(UserWarning):
    """The results are computed for one input at a time, which is many times slower."""


class WeightsWarning(UserWarning):
    """The weights of a network do not look like what they are said to be, trained or initial."""
