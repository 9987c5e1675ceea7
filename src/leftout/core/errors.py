"""What can go wrong, one class per kind; each message names the thing, the rule, what came, what to do.

Every error of this package is a `LeftoutError` and a `ValueError`: a caller can catch either, and the
command line turns it into one sentence and exit status 2.
"""


class LeftoutError(ValueError):
    """Something the caller can put right; the message says how."""


class ShapeError(LeftoutError):
    """An array has not the shape that its neighbours ask for."""


class OptionError(LeftoutError):
    """An option lies outside what it may be."""


class DataError(LeftoutError):
    """A file or an array holds what cannot be used: missing, truncated, NaN, wrong type."""


class NotPositiveError(LeftoutError):
    """A matrix that must be positive (semi-)definite is not. No jitter is ever added."""


class DivergenceError(LeftoutError):
    """Training with these settings does not converge; the message names the critical rate."""


class SolveError(LeftoutError):
    """A linear system was not solved; the message says how the solver ended and what to try."""


class MemoryBudgetError(LeftoutError):
    """The work would not fit into the memory it may use."""


class StoreError(LeftoutError):
    """A saved result is incomplete, of another version, or of another computation."""


class NotConvergedWarning(UserWarning):
    """The numbers are there, but training or a solve ended short of what was asked of it."""


class ExpansionWarning(UserWarning):
    """The numbers are those of an expansion whose next terms are not small here."""


class LoopWarning(UserWarning):
    """The numbers are right, but one input at a time: many times slower."""
