"""How a function of K changes when a row and column of K are removed, for each of them at once.

With R(z) = (zI − K)⁻¹, leaving example i out turns R into R − R e_i e_iᵀ R / R_ii (its i-th row
and column are then zero). Given g(s) = Re Σ_q w_q / (z_q − s), K = V diag(s) Vᵀ and data y,

    V-coordinates of (dual without i − dual) = −V[i] ∘ H[:, i],
    H = Re Σ_q (w_q / (z_q − s)) B_q,       B_q[i] = (R(z_q) y)_i / R(z_q)_ii .

So the predictions without each example differ by K(x, X) V · (−Vᵀ ∘ H): one matrix product for all.
B costs 4nr flops a node and does not depend on the time; H costs 4nr flops a node and time.

Where the kernel has b rows I for each example, one for each output, they are removed together: R_ii
becomes the block R_II, and the contributions of its rows are added.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.structured_matrix import to_numbers
from leftout.core.work import WorkCount, calls, passes, product
from leftout.solvers.diagonal_blocks import solve_blocks
from leftout.solvers.quadrature import NODES, Quadrature
from leftout.solvers.spectrum import ROWS, Spectrum, real_times_complex

Rows = slice | Int64[Tensor, " chosen"]


@dataclass(frozen=True, eq=False)
class Resolvents:
    """R(z) y and the diagonal of R(z) at every node.

    Attributes:
        poles: 1 / (z_q − s_k).
        values: (R(z_q) y)_ic, by row i of K and column c of y.
        diagonal: R(z_q)_II, by example.
    """

    spectrum: Spectrum
    quadrature: Quadrature
    poles: Complex128[Tensor, "q r"]
    values: Complex128[Tensor, "q rows c"]
    diagonal: Complex128[Tensor, "q n b b"]

    @property
    def outputs_per_example(self) -> int:
        """Return b, the rows of an example."""
        return self.diagonal.shape[-1]

    def rows(self, examples: slice) -> slice:
        """Return the rows of K of some examples."""
        b = self.outputs_per_example
        return slice(b * examples.start, b * examples.stop)


def resolvents_at_nodes(
    spectrum: Spectrum,
    data: Float64[Tensor, "rows c"],
    quadrature: Quadrature,
    *,
    outputs_per_example: int = 1,
) -> Resolvents:
    """Return R(z) y and the diagonal of R(z) at the nodes of a quadrature.

    Args:
        outputs_per_example: b, how many rows that follow each other belong to one example.

    Cost:
        4nr(c + b) flops a node for n rows of K; q·n·(c + b) complex numbers are kept.
    """
    vectors = spectrum.vectors
    device = vectors.device
    nodes = quadrature.nodes.to(device)
    poles = 1 / (nodes[:, None] - spectrum.values[None, :])  # (q, r)
    inside = spectrum.coordinates(data)  # (r, k)
    (q, r), (n, c), b = poles.shape, data.shape, outputs_per_example
    scaled = (poles[:, :, None] * inside).permute(1, 0, 2).reshape(r, q * c)  # (r, q·c)
    values = real_times_complex(vectors, scaled).view(n, q, c).transpose(0, 1)
    diagonal = spectrum.diagonal(poles, outputs_per_example)
    if r < n:
        # V is thin: on the complement of its span K is zero and R(z) = I / z.
        values = values + spectrum.outside(data).to(nodes.dtype) / nodes[:, None, None]
        diagonal = diagonal + spectrum.outside_diagonal(b) / nodes[:, None, None, None]
    return Resolvents(spectrum, quadrature, poles, values, diagonal)


def left_out_ratios(resolvents: Resolvents) -> Complex128[Tensor, "q rows c"]:
    """Return B_q[i] = (R(z_q)_II)⁻¹ (R(z_q) y)_I: R y without example i is R y − R e_I B_q[i]."""
    return solve_blocks(resolvents.diagonal, _by_example(resolvents)).flatten(1, 2)


def reweighted_ratios(resolvents: Resolvents, weight: float) -> Complex128[Tensor, "q rows c"]:
    """Return the ratios B_q[i] for giving example i the weight ω in the loss instead of leaving it out.

    Weights D turn R into (z D⁻¹ − K)⁻¹; for one example that is R − R e_i e_iᵀ R / (R_ii + 1/c)
    with c = z (1/ω − 1). Weight 0 is leaving out, weight 1 changes nothing. At z = 0 (ridge 0, end
    of training) weights other than 0 change nothing: the data are interpolated whatever they weigh.
    """
    if weight == 0:
        return left_out_ratios(resolvents)
    nodes = resolvents.quadrature.nodes.to(resolvents.values.device)[:, None, None, None]
    unit = torch.eye(resolvents.outputs_per_example, dtype=nodes.dtype, device=nodes.device)
    # Multiplied through by z (1 − ω), so that neither ω = 1 nor z = 0 divides by zero.
    factor = nodes * (1 - weight)
    below = resolvents.diagonal * factor + weight * unit
    return solve_blocks(below, _by_example(resolvents) * factor).flatten(1, 2)


def _by_example(resolvents: Resolvents) -> Complex128[Tensor, "q n b c"]:
    """Return R(z) y with the rows of an example on an axis of their own."""
    q, n, b, _ = resolvents.diagonal.shape
    return resolvents.values.view(q, n, b, -1)


def coefficients(
    resolvents: Resolvents, ratios: Complex128[Tensor, "q b"], time: int
) -> Float64[Tensor, "r b"]:
    """Return H = Re Σ_q (w_q / (z_q − s)) B_q, the change per unit of V[i], for some columns.

    Args:
        ratios: B for one output and a block of examples.
        time: which row of the quadrature's weights.

    Cost:
        4rqb flops, as one real matrix product.
    """
    weights = resolvents.quadrature.weights[time].to(resolvents.poles.device)
    filters = (weights[:, None] * resolvents.poles).T  # (r, q)
    return torch.cat([filters.real, -filters.imag], dim=1) @ torch.cat([ratios.real, ratios.imag])


def edited_coordinates(
    resolvents: Resolvents, ratios: Complex128[Tensor, "q rows"], time: int, rows: Rows
) -> Float64[Tensor, "r e"]:
    """Return Vᵀ (dual with an example edited − dual) for the examples with these rows of K.

    Args:
        ratios: B for one column of the data, from `left_out_ratios` or `reweighted_ratios`.
        rows: all rows of one example after those of another.
    """
    change = coefficients(resolvents, ratios[:, rows], time)  # (r, e·b)
    change = change.mul_(resolvents.spectrum.vectors[rows].T).neg_()
    b = resolvents.outputs_per_example
    return change if b == 1 else torch.unflatten(change, 1, (-1, b)).sum(2)


def left_out_diagonal(
    resolvents: Resolvents, ratios: Complex128[Tensor, "q rows"], time: int
) -> Float64[Tensor, " rows"]:
    """Return, for each i, how the prediction at x_i itself changes when i is left out.

    Cost:
        that of `coefficients` for all examples; no n × n number is kept.
    """
    vectors, values = resolvents.spectrum.vectors, resolvents.spectrum.values
    change = torch.empty(len(vectors), dtype=vectors.dtype, device=vectors.device)
    n, b = resolvents.diagonal.shape[1:3]
    for examples in blocks(n, max(1, ROWS // b)):
        rows = resolvents.rows(examples)
        inside = edited_coordinates(resolvents, ratios, time, rows).mul_(values[:, None])  # (r, e)
        inside = inside.repeat_interleave(b, 1) if b > 1 else inside
        change[rows] = inside.mul_(vectors[rows].T).sum(0)
    return change


def group_left_out_duals(resolvents: Resolvents, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "t rows c"]:
    """Return dual without the rows of a group − dual, at every time of the quadrature.

    Cost:
        that of `group_left_out_coordinates`, and 2nrc flops a time.
    """
    spectrum = resolvents.spectrum
    inside, outside = _group_left_out(resolvents, rows)
    t, r, c = inside.shape
    change = (spectrum.vectors @ inside.permute(1, 0, 2).reshape(r, t * c)).reshape(-1, t, c).transpose(0, 1)
    if spectrum.null:
        # Outside the span of V the columns of the group are those of I − V Vᵀ.
        back = spectrum.vectors[rows].T @ outside.permute(1, 0, 2).reshape(len(rows), t * c)  # (r, t·c)
        change = change - (spectrum.vectors @ back).reshape(-1, t, c).transpose(0, 1)
        change[:, rows] += outside
    return change


def group_left_out_coordinates(resolvents: Resolvents, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "t r c"]:
    """Return Vᵀ (dual without the rows of a group − dual) at every time of the quadrature.

    R becomes R − R_I R_II⁻¹ R_Iᵀ; what is left out together is not the sum of single removals.

    Cost:
        2g²r + 8g³/3 complex flops a node.
    """
    return _group_left_out(resolvents, rows)[0]


def _group_left_out(
    resolvents: Resolvents, rows: Int64[Tensor, " g"]
) -> tuple[Float64[Tensor, "t r c"], Float64[Tensor, "t g c"]]:
    """Return those coordinates, and of what lies outside V the factor of each row: zero where V is whole."""
    spectrum = resolvents.spectrum
    vectors, nodes = spectrum.vectors, resolvents.quadrature.nodes.to(resolvents.poles.device)
    inside = to_numbers(vectors[rows])  # (g, r)
    weights = resolvents.quadrature.weights.to(vectors.device)
    total = inside.new_zeros(len(weights), inside.shape[1], resolvents.values.shape[2])
    outside = inside.new_zeros(len(weights), len(rows), resolvents.values.shape[2])
    missing = torch.eye(len(rows), dtype=torch.float64, device=vectors.device) - inside @ inside.T
    for q in range(len(nodes)):
        scaled = inside * resolvents.poles[q]  # (g, r)
        block = real_times_complex(inside, scaled.T)
        if spectrum.null:
            block = block + missing / nodes[q]
        ratio = torch.linalg.solve(block, resolvents.values[q, rows])  # (g, k)
        change = scaled.T @ ratio  # (r, k)
        total -= (weights[:, q, None, None] * change).real
        if spectrum.null:
            outside -= (weights[:, q, None, None] * ratio / nodes[q]).real
    return total, outside


def added_coordinates(
    resolvents: Resolvents,
    to_train: Float64[Tensor, "rows ab"],
    to_itself: Float64[Tensor, "a b b"],
    data: Float64[Tensor, "ab c"],
    time: int,
) -> tuple[Float64[Tensor, "r a c"], Float64[Tensor, "ab c"]]:
    """Return Vᵀ (dual with a new example − dual), each added alone, and the new dual entries.

    K grows by a row and a column (by b of them); with the Schur complement c(z) = z − κ − kᵀ R(z) k,

        dual change = Σ_q w_q R(z_q) k B_q,    own entry = Σ_q w_q B_q,
        B_q = c(z_q)⁻¹ (kᵀ R(z_q) y + y*).

    Args:
        to_train: k = K(X, x*), in the span of V.
        to_itself: κ = k(x*, x*).
        data: y*.

    Cost:
        4(rb + nc)ab flops a node for n rows of K.
    """
    a, b = len(to_itself), resolvents.outputs_per_example
    inside = resolvents.spectrum.coordinates(to_train)  # (r, a·b)
    unit = torch.eye(b, dtype=resolvents.values.dtype, device=inside.device)
    nodes = resolvents.quadrature.nodes.to(inside.device)[:, None, None, None]
    pairs = inside.T.reshape(a, b, 1, -1) * inside.T.reshape(a, 1, b, -1)  # (a, b, b, r)
    back = real_times_complex(pairs.flatten(0, 2), resolvents.poles.T).T.reshape(-1, a, b, b)
    schur = nodes * unit - to_itself - back
    fitted = torch.einsum("na,qnk->qak", to_train.to(resolvents.values.dtype), resolvents.values)
    missed = torch.unflatten(fitted + data, 1, (a, b))  # (q, a, b, c)
    ratios = solve_blocks(schur, missed).flatten(1, 2)  # (q, a·b, c)
    weights = resolvents.quadrature.weights[time].to(inside.device)
    new_entries = torch.einsum("q,qak->ak", weights, ratios).real
    change = [inside * coefficients(resolvents, ratios[:, :, c], time) for c in range(data.shape[1])]
    return torch.unflatten(torch.stack(change, dim=-1), 1, (a, b)).sum(2), new_entries


def apply_filter(
    spectrum: Spectrum, data: Float64[Tensor, "rows c"], function: Callable[[Tensor], Tensor]
) -> Float64[Tensor, "rows c"]:
    """Return g(K) y, exactly: g at the eigenvalues, those that are zero and have no vector included."""
    inside = spectrum.vectors @ filtered_coordinates(spectrum, data, function)
    if not spectrum.null:
        return inside
    return inside + function(torch.zeros_like(spectrum.values[:1])) * spectrum.outside(data)


def filtered_coordinates(
    spectrum: Spectrum, data: Float64[Tensor, "rows c"], function: Callable[[Tensor], Tensor]
) -> Float64[Tensor, "r c"]:
    """Return Vᵀ g(K) y, exactly: g at the eigenvalues."""
    return function(spectrum.values)[:, None] * spectrum.coordinates(data)


def resolvents_work(n: int, k: int) -> WorkCount:
    """Return the work of `resolvents` at the nodes of one window of times, for n rows and k columns."""
    return product(n, n, 2 * NODES * (k + 1)) + passes(NODES * n * k, 12)


def resolvents_bytes(n: int, k: int) -> int:
    """Return the bytes of `Resolvents` at the nodes of one window of times, and of their ratios."""
    return 16 * NODES * n * (2 * k + 1)


def coefficients_work(n: int) -> WorkCount:
    """Return the work of `coefficients` for all examples, of one column."""
    return product(n, 2 * NODES, n) + passes(n * n, 5)


def left_out_diagonal_work(n: int) -> WorkCount:
    """Return the work of `left_out_diagonal`, of one column."""
    return coefficients_work(n) + passes(n * n, 4)


def group_sum_work(n: int, k: int) -> WorkCount:
    """Return the work of adding up what a group changes, (n, k) complex numbers, over the nodes."""
    return NODES * (calls(15) + passes(n * k, 10))
