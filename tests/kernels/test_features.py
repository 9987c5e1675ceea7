"""Are products of what is kept the ones of the definition, in double whatever it is kept in?"""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.kernels.network.features import FactoredGradients, JacobianRows, NetworkFeatures, bytes_of
from problems.tangent_networks import drawn


def rows(n, dtype=torch.float64):
    """Return rows longer than a piece of the conversion."""
    return JacobianRows(drawn(n, 2, 9001, seed=n).to(dtype))


def pairs(n, t=3, dtype=torch.float64, *, bias=True):
    return FactoredGradients(
        drawn(n, t, 5, seed=n).to(dtype), drawn(n, 2, t, 4, seed=n + 50).to(dtype), bias=bias
    )


def whole(part):
    """Return (n e, p) in double: for pairs, Σ_t s aᵀ and Σ_t s."""
    if isinstance(part, JacobianRows):
        return part.values.double().flatten(0, 1).numpy()
    a, s = (one.double().numpy() for one in part.tensors)
    n, e = s.shape[:2]
    found = [np.einsum("netc,ntd->necd", s, a).reshape(n * e, -1)]
    if part.bias:
        found.append(s.sum(2).reshape(n * e, -1))
    return np.concatenate(found, axis=1)


KINDS = {
    "rows": rows,
    "pairs": pairs,
    "pairs, one position": lambda n, **o: pairs(n, 1, **o),
    "pairs, no bias": lambda n, **o: pairs(n, bias=False, **o),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("piece", [1, 2000, 2**25])
def test_products_are_those_of_whole_rows_in_double(make, dtype, piece) -> None:
    left, right = make(7, dtype=dtype), make(4, dtype=dtype)
    held = [NetworkFeatures([part], len(part.tensors[0])) for part in (left, right)]
    for features, part in zip(held, (left, right), strict=True):
        features.fill(slice(0, features.n), [part])
    found = held[0].products(slice(2, 7), held[1], slice(1, 4), piece=piece)
    # What is kept is exact, in either dtype: 9001 products and sums in double.
    assert_same(found, whole(left)[4:] @ whole(right)[2:].T, 1e-12)
    squares = (whole(left)[2:10] ** 2).sum(1).reshape(-1, 2)
    assert_same(left.squares(slice(1, 5)), squares, 1e-12)


def test_parts_add_up_and_are_filled_chunk_by_chunk() -> None:
    parts = [rows(6), pairs(6)]
    features = NetworkFeatures([part.like(tuple(t[:1] for t in part.tensors)) for part in parts], 6)
    for chunk in (slice(0, 4), slice(4, 6)):
        features.fill(chunk, [part.like(tuple(t[chunk] for t in part.tensors)) for part in parts])
    every = slice(0, 6)
    want = sum(whole(part) @ whole(part).T for part in parts)
    assert_same(features.products(every, features, every), want, 1e-12)
    assert features.nbytes == bytes_of(parts) == 8 * 6 * (2 * 9001 + 3 * 5 + 2 * 3 * 4)
