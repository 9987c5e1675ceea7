"""The solution X of A X + X A = C from the eigendecomposition of A.

With A = Q diag(a) Qᵀ, in the coordinates QᵀXQ and QᵀCQ the equation separates into scalars,

    X_kl = C_kl / (a_k + a_l) :

n² divisions, where Bartels and Stewart's algorithm for a general A takes some 25n³.
"""

from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError, ShapeError


def lyapunov(values: Float64[Tensor, " n"], right: Float64[Tensor, "n2 n3"]) -> Float64[Tensor, "n n"]:
    """Return X of A X + X A = C, all in the eigenbasis of A.

    Where A is a stable drift and C the strength of the noise, X is the covariance that a linear
    stochastic process settles at; it is symmetric positive semi-definite as C is.

    Args:
        values: a, the eigenvalues of A, all positive; equal ones may repeat.
        right: C in the eigenbasis.

    Raises:
        ShapeError: C is not (n, n).
        NotPositiveError: an eigenvalue is not positive: that mode has no stationary covariance.

    Cost:
        n² divisions and one n × n temporary.

    Accuracy:
        every entry to 2 eps of itself, however ill-conditioned A.

    Source:
        Smooth unique information, eq. 14, in the eigenbasis of H.
    """
    n = len(values)
    if tuple(right.shape) != (n, n):
        raise ShapeError(
            f"`right` must have shape {(n, n)}, a row and column for each of `values`; got "
            f"{tuple(right.shape)}."
        )
    # Not `values <= 0`: NaN must not pass.
    wrong = (~(values > 0)).nonzero().flatten()
    if len(wrong):
        raise NotPositiveError(
            f"`values` must be positive, or A X + X A = C has no covariance for a solution; number "
            f"{int(wrong[0])} is {float(values[wrong[0]]):.3g}. Leave out modes that do not move, "
            "or pass a larger `ridge`."
        )
    return right / (values[:, None] + values[None, :])
