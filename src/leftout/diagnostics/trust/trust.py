"""Which answers about a trained network speak for the network trained again? Those that two models agree on.

The linearisation of a network at its trained weights and the kernel of its architecture are independent: one
knows the weights and nothing of how they came about, the other the architecture and no weight. For each query

    agreement = correlation over training examples of leave-one-out by the one and by the other

was compared with the truth, on networks that were trained again on random halves of their examples
(`calibration`): the linear datamodeling score (LDS) of a query is the rank correlation over halves of the
loss that the answers add up to, and the loss that was measured.
"""

import numpy as np
import xarray as xr
from jaxtyping import Float64

from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.leave_one_out import leave_one_out
from leftout.core.checks import check_kind
from leftout.core.errors import ShapeError
from leftout.data.conversion import doubles
from leftout.data.pairs import Data
from leftout.diagnostics.trust.architecture_model import (
    architecture_kernel,
    architecture_model,
    check_measured,
)
from leftout.diagnostics.trust.calibration import CALIBRATION
from leftout.dynamics.fitted import Fitted


def trust(fitted: Fitted, query: Data, *, scores: xr.DataArray | None = None) -> xr.Dataset:
    """Return whether the answers about each query speak for the network trained again: trust, or noise.

    Args:
        fitted: a classifier at its trained weights, `Empirical(module)` under `Logistic`, whose architecture
            has a kernel: `lo.kernels.of(module)`.
        query: Examples, or a pair (inputs, targets).
        scores: `leave_one_out(fitted, query)`, where it is at hand.

    Returns:
        A Dataset over `query`: `agreement`, a correlation (NaN of a query that no example moves), and
        `trusted`, whether it is at least the threshold. Among the attributes are `verdict`, a sentence;
        `basis`, what it rests on; and how often networks that were trained again bore it out.

    Raises:
        OptionError: no trained network of a classifier, or an architecture that has no kernel here, or one
            on which agreement was not measured: there is no verdict then; says why.
        ShapeError: scores that are not (query, train) of this model and these queries.

    Accuracy:
        the attributes say how often it was right on the networks of the calibration (docs/networks.md): ReLU
        networks, fully connected and convolutional, of 100 to 500 examples. Others were not measured.

    Cost:
        a fit of the kernel and one Newton step for every example; as much again without `scores`.

    Example:
        >>> import leftout as lo, torch
        >>> train, query = lo.load("digits", n_train=60, n_query=10, normalise="sphere")
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(),
        ...                               torch.nn.Linear(16, 10))
        >>> recipe = lo.SGDTraining(build=network, epochs=20, batch_size=20, learning_rate=0.05, momentum=0.9)
        >>> optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        >>> for step in range(60):
        ...     optimiser.zero_grad()
        ...     torch.nn.functional.cross_entropy(network(train.inputs.float()), train.labels).backward()
        ...     optimiser.step()
        >>> ridge = lo.training_ridge(n=60, learning_rates=0.05, steps=60, momentum=0.9)
        >>> fitted = lo.fit(lo.kernels.Empirical(network), train, rule=lo.Logistic(ridge))
        >>> found = lo.trust(fitted, query)
        >>> found.agreement.dims, found.attrs["verdict"].split(":")[0]
        (('query',), 'Verdict')
    """
    check_kind("scores", scores, (xr.DataArray, type(None)), what="the result of leave_one_out, or None")
    examples = queries_of(fitted, query)
    wide = architecture_kernel(fitted.kernel, fitted.rule, fitted.train)
    check_measured(wide)
    other = architecture_model(fitted)
    answers = leave_one_out(fitted, examples) if scores is None else scores
    if answers.dims != ("query", "train") or answers.shape != (len(examples), len(fitted)):
        raise ShapeError(
            f"`scores` must be leave_one_out(fitted, query), {len(examples)} queries and {len(fitted)} "
            f"training examples; got {dict(answers.sizes)}."
        )
    agreement = row_correlations(doubles(answers.values), leave_one_out(other, examples).values)
    trusted = agreement >= CALIBRATION.threshold  # False where there is none
    return xr.Dataset(
        {"agreement": ("query", agreement), "trusted": ("query", trusted)},
        coords={"query": np.asarray(examples.ids)},
        attrs={
            "method": "trust",
            "kernel": wide.words,
            "verdict": CALIBRATION.verdict(agreement),
            "basis": CALIBRATION.basis(agreement),
            "per_query": CALIBRATION.per_query,
            **CALIBRATION.record,
        },
    )


def row_correlations(
    first: Float64[np.ndarray, "m n"], second: Float64[np.ndarray, "m n"]
) -> Float64[np.ndarray, " m"]:
    """Return the correlation of rows of the same place; NaN where all numbers of one are equal."""
    parts = []
    for rows in (first, second):
        largest = np.abs(rows).max(axis=1, keepdims=True)  # so that squares of tiny numbers stay numbers
        scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
        centred = scaled - scaled.mean(axis=1, keepdims=True)
        centred[(rows == rows[:, :1]).all(axis=1)] = 0.0
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        parts.append(np.divide(centred, norms, out=np.full_like(centred, np.nan), where=norms > 0))
    correlations: np.ndarray = (parts[0] * parts[1]).sum(axis=1)
    return correlations
