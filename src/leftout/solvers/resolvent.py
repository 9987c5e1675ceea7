"""How does a function of K change when a row and column of K go away - for each of them at once?

With R(z) = (zI − K)⁻¹, leaving example i out turns R into R − R e_i e_iᵀ R / R_ii (its i-th row
and column are then zero). Given g(s) = Re Σ_q w_q / (z_q − s), K = V diag(s) Vᵀ and data y,

    V-coordinates of (dual without i − dual) = −V[i] ∘ H[:, i],
    H = Re Σ_q (w_q / (z_q − s)) B_q,       B_q[i] = (R(z_q) y)_i / R(z_q)_ii .

So the predictions without each example differ by K(x, X) V · (−Vᵀ ∘ H): one matrix product for all.
B costs 4nr flops a node and does not depend on the time; H costs 4nr flops a node and time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.solvers.quadrature import Quadrature
from leftout.solvers.spectrum import Spectrum

ROWS = 1024
"""Rows of V squared at a time: the temporary is ROWS × r, never n × r."""


@dataclass(frozen=True, eq=False)
class Resolvents:
    """R(z) y and the diagonal of R(z) at every node.

    Attributes:
        poles: 1 / (z_q − s_k).
        values: (R(z_q) y)_ic.
        diagonal: R(z_q)_ii.
    """

    spectrum: Spectrum
    quadrature: Quadrature
    poles: Complex128[Tensor, "q r"]
    values: Complex128[Tensor, "q n k"]
    diagonal: Complex128[Tensor, "q n"]


def resolvents(
    spectrum: Spectrum, data: Float64[Tensor, "n k"], quadrature: Quadrature
) -> Resolvents:
    """Return R(z) y and diag R(z) at the nodes of a quadrature.

    Cost:
        4nr(k + 1) flops a node; q·n·(k + 1) complex numbers are kept.
    """
    vectors = spectrum.vectors
    device = vectors.device
    nodes = quadrature.nodes.to(device)
    poles = 1 / (nodes[:, None] - spectrum.values[None, :])  # (q, r)
    inside = spectrum.coordinates(data)  # (r, k)
    (q, r), (n, k) = poles.shape, data.shape
    scaled = (poles[:, :, None] * inside).permute(1, 0, 2).reshape(r, q * k)  # (r, q·k)
    values = _real_times_complex(vectors, scaled).view(n, q, k).permute(1, 0, 2)  # (q, n, k)
    diagonal = torch.empty(q, n, dtype=torch.complex128, device=device)
    for rows in blocks(n, ROWS):
        diagonal[:, rows] = _real_times_complex(vectors[rows].square(), poles.T).T
    if r < n:
        # V is thin: on the complement of its span K is zero and R(z) = I / z.
        outside = (data - vectors @ inside).to(nodes.dtype)
        missing = 1 - vectors.square().sum(1)
        values = values + outside / nodes[:, None, None]
        diagonal = diagonal + missing / nodes[:, None]
    return Resolvents(spectrum, quadrature, poles, values, diagonal)


def left_out_ratios(found: Resolvents) -> Complex128[Tensor, "q n k"]:
    """Return B_q[i] = (R(z_q) y)_i / R(z_q)_ii: what removing example i takes with it."""
    return found.values / found.diagonal[:, :, None]


def reweighted_ratios(
    found: Resolvents, weight: Float64[Tensor, " n"]
) -> Complex128[Tensor, "q n k"]:
    """Return the same for giving example i the weight ω in the loss instead of leaving it out.

    Weights D turn R into (z D⁻¹ − K)⁻¹; for one example that is R − R e_i e_iᵀ R / (R_ii + 1/c)
    with c = z (1/ω − 1). Weight 0 is leaving out, weight 1 changes nothing. At z = 0 (ridge 0, end
    of training) weights other than 0 change nothing: the data are interpolated whatever they weigh.
    """
    nodes = found.quadrature.nodes.to(found.values.device)[:, None]  # (q, 1)
    weight = weight.to(nodes.dtype)
    # Multiplied through by z (1 − ω), so that neither ω = 1 nor z = 0 divides by zero.
    factor = nodes * (1 - weight)
    below = found.diagonal * factor + weight
    ratios = found.values * (factor / below)[:, :, None]
    left = weight == 0
    return torch.where(left[None, :, None], found.values / found.diagonal[:, :, None], ratios)


def coefficients(
    found: Resolvents,
    ratios: Complex128[Tensor, "q b"],
    time: int,
) -> Float64[Tensor, "r b"]:
    """Return H = Re Σ_q (w_q / (z_q − s)) B_q, the change per unit of V[i], for some columns.

    Args:
        ratios: B for one output and a block of examples.
        time: which row of the quadrature's weights.

    Cost:
        4rqb flops, as one real matrix product.
    """
    weights = found.quadrature.weights[time].to(found.poles.device)
    left = (weights[:, None] * found.poles).T  # (r, q)
    return torch.cat([left.real, -left.imag], dim=1) @ torch.cat([ratios.real, ratios.imag])


def left_out_coordinates(
    found: Resolvents,
    ratios: Complex128[Tensor, "q n"],
    time: int,
    columns: slice | Int64[Tensor, " b"],
) -> Float64[Tensor, "r b"]:
    """Return Vᵀ (dual without i − dual) for the examples of `columns`, for one output."""
    change = coefficients(found, ratios[:, columns], time)
    return change.mul_(found.spectrum.vectors[columns].T).neg_()


def left_out_diagonal(
    found: Resolvents, ratios: Complex128[Tensor, "q n"], time: int
) -> Float64[Tensor, " n"]:
    """Return, for each i, how the prediction at x_i itself changes when i is left out.

    Cost:
        that of `coefficients` for all n examples; no n × n number is kept.
    """
    vectors, values = found.spectrum.vectors, found.spectrum.values
    change = torch.empty(len(vectors), dtype=vectors.dtype, device=vectors.device)
    for rows in blocks(len(vectors), ROWS):
        inside = left_out_coordinates(found, ratios, time, rows)  # (r, b)
        change[rows] = inside.mul_(values[:, None]).mul_(vectors[rows].T).sum(0)
    return change


def group_left_out_coordinates(
    found: Resolvents, rows: Int64[Tensor, " g"]
) -> Float64[Tensor, "t r k"]:
    """Return Vᵀ (dual without the group − dual) at every time of the quadrature.

    R becomes R − R_I R_II⁻¹ R_Iᵀ; what is left out together is not the sum of single removals.

    Cost:
        2g²r + 8g³/3 complex flops a node.
    """
    vectors, nodes = found.spectrum.vectors, found.quadrature.nodes
    inside = vectors[rows]  # (g, r)
    total = torch.zeros(
        len(found.quadrature.weights), vectors.shape[1], found.values.shape[2],
        dtype=torch.float64, device=vectors.device,
    )  # fmt: skip
    weights = found.quadrature.weights.to(vectors.device)
    missing = torch.eye(len(rows), dtype=torch.float64, device=vectors.device) - inside @ inside.T
    thin = vectors.shape[1] < vectors.shape[0]
    for q in range(len(nodes)):
        scaled = inside * found.poles[q]  # (g, r)
        block = _real_times_complex(inside, scaled.T)
        if thin:
            block = block + missing / nodes[q].to(vectors.device)
        ratio = torch.linalg.solve(block, found.values[q, rows])  # (g, k)
        change = scaled.T @ ratio  # (r, k)
        total -= (weights[:, q, None, None] * change).real
    return total


def added_coordinates(
    found: Resolvents,
    to_train: Float64[Tensor, "n a"],
    to_itself: Float64[Tensor, " a"],
    data: Float64[Tensor, "a k"],
    time: int,
) -> tuple[Float64[Tensor, "r a k"], Float64[Tensor, "a k"]]:
    """Return Vᵀ (dual with a new example − dual), each added alone, and the new dual entry.

    K grows by a row and a column; with the Schur complement c(z) = z − κ − kᵀ R(z) k,

        dual change = Σ_q w_q R(z_q) k B_q,    own entry = Σ_q w_q B_q,
        B_q = (kᵀ R(z_q) y + y*) / c(z_q).

    Args:
        to_train: k = K(X, x*), in the span of V.
        to_itself: κ = k(x*, x*).
        data: y*.

    Cost:
        4(r + n k)a flops a node.
    """
    inside = found.spectrum.coordinates(to_train)  # (r, a)
    nodes = found.quadrature.nodes.to(inside.device)[:, None]
    back = _real_times_complex(inside.square().T, found.poles.T).T  # (q, a)
    schur = nodes - to_itself - back
    fitted = torch.einsum("na,qnk->qak", to_train.to(found.values.dtype), found.values)
    ratios = (fitted + data) / schur[:, :, None]  # (q, a, k)
    weights = found.quadrature.weights[time].to(inside.device)
    own = torch.einsum("q,qak->ak", weights, ratios).real
    change = [inside * coefficients(found, ratios[:, :, c], time) for c in range(data.shape[1])]
    return torch.stack(change, dim=-1), own


def filtered_coordinates(
    spectrum: Spectrum,
    data: Float64[Tensor, "n k"],
    function: Callable[[Tensor], Tensor],
) -> Float64[Tensor, "r k"]:
    """Return Vᵀ g(K) y, exactly: g at the eigenvalues."""
    return function(spectrum.values)[:, None] * spectrum.coordinates(data)


def _real_times_complex(
    real: Float64[Tensor, "n r"], other: Complex128[Tensor, "r c"]
) -> Complex128[Tensor, "n c"]:
    """Return real @ other, in half the flops of a complex product and with no copy of `real`."""
    columns = torch.view_as_real(other.resolve_conj().contiguous()).flatten(1)  # (r, 2c)
    product = real @ columns  # (n, 2c)
    return torch.view_as_complex(product.view(len(real), -1, 2))
