"""A fitted estimator of another library, linear in its targets: what a question needs of it.

Ridge and kernel ridge regression, and the mean of a Gaussian process, with everything that they fix or fit
again: weights of examples, noise of their targets, an intercept, targets centred at their mean.
`from_sklearn` makes one; how leaving out is exact stands in `solvers.smoother`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import as_list, shown
from leftout.core.errors import OptionError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.data.encoding import encoding_of_numbers
from leftout.data.examples import Examples
from leftout.data.pairs import inputs_of
from leftout.data.target_columns import TargetColumns
from leftout.dynamics.rules import At
from leftout.solvers.smoother import Smoother


@dataclass(frozen=True, eq=False)
class EstimatorBlock:
    """A block of queries, compared with the training examples.

    Attributes:
        rows: places among the queries.
        compared: what smoothers compare.
        targets: in the units of `FittedEstimator.targets`.
        predictions: of the estimator, in these units.
    """

    rows: slice
    compared: Float64[Tensor, "m _"]
    targets: Float64[Tensor, "m k"]
    predictions: Float64[Tensor, "m k"]


@final
class FittedEstimator:
    """A fitted estimator, ready to be asked what it would say without an example. Made by `from_sklearn`.

    `leave_one_out`, `leave_out`, `relabel` and `out_of_sample` take it as they take a `Fitted`, and
    `reweight` where the estimator takes weights. All are at the end of training: there is no time `at`.

    Attributes:
        name: the estimator in a word.
        smoothers: of each ridge; `smoother_of` says which one each output has.
        train: inputs as they were given, targets minus `offset`.
        centred: whether targets are centred at their mean, which is another one without an example.
        has_weights: whether the estimator weighs examples.
        condition: of the worst of the linear systems; numbers are right to some 10·condition·eps.

    Example:
        >>> import leftout as lo
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> X, y = load_diabetes(return_X_y=True)
        >>> fitted = lo.from_sklearn(Ridge(0.1).fit(X, y), X, y)
        >>> fitted
        FittedEstimator(Ridge, 442 examples)
        >>> lo.out_of_sample(fitted).shape
        torch.Size([442, 1])
    """

    def __init__(
        self,
        name: str,
        smoothers: Sequence[Smoother],
        smoother_of: Sequence[int],
        *,
        inputs: Float64[Tensor, "n d"],
        targets: Float64[Tensor, "n k"],
        columns: TargetColumns,
        compare: Callable[[Float64[Tensor, "m d"]], Float64[Tensor, "m _"]],
        shifts: bool,
        centred: bool,
        has_weights: bool,
        settings: dict[str, Any],
        memory: int,
    ) -> None:
        """Keep what questions need.

        Args:
            compare: what smoothers compare of queries with the inputs.
            shifts: whether adding a number to all targets adds it to all predictions.
        """
        self.name = name
        self.smoothers = tuple(smoothers)
        self.smoother_of = tuple(smoother_of)
        encoding = encoding_of_numbers(targets, centre="mean" if shifts else "none")
        self.offset = torch.tensor(encoding.offset, dtype=torch.float64, device="cpu")
        self.train = Examples(inputs=inputs, targets=targets - self.offset, encoding=encoding)
        self.columns = columns
        self.centred = centred
        self.has_weights = has_weights
        self.settings = settings
        self.memory = memory
        self._compare = compare

    def __len__(self) -> int:
        return len(self.train)

    def __repr__(self) -> str:
        return f"FittedEstimator({self.name}, {len(self)} examples)"

    @property
    def outputs(self) -> int:
        return len(self.smoother_of)

    @property
    def output_names(self) -> list[str]:
        return list(self.columns.names)

    @property
    def targets(self) -> Float64[Tensor, "n k"]:
        return self.train.targets

    @property
    def condition(self) -> float:
        return max(smoother.condition for smoother in self.smoothers)

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what this model is, JSON-like."""
        identity = {"estimator": self.name, **self.settings}
        return identity | {
            "train": self.train.fingerprint,
            "weights": fingerprint(identity, self.train.fingerprint),
        }

    @cached_property
    def duals(self) -> Float64[Tensor, "n k"]:
        """Return α of each output."""
        return torch.cat(
            [self.smoothers[s].duals(self.targets[:, [o]]) for o, s in enumerate(self.smoother_of)], dim=1
        )

    @cached_property
    def constant_duals(self) -> Float64[Tensor, "n 1"]:
        """Return α of the target 1, which tells how a shift of all targets is learned."""
        return self.smoothers[0].duals(torch.ones_like(self.targets[:, :1]))

    def predict(self, inputs: Any) -> Float64[Tensor, "m k"]:
        """Return what the estimator predicts, or its decision function, a column for each output.

        Args:
            inputs: as for the estimator; of a precomputed kernel its rows to the training examples.
        """
        return self.predictions(self.comparison(self.inputs_of("inputs", inputs))) + self.offset

    def predictions(self, compared: Float64[Tensor, "m _"]) -> Float64[Tensor, "m k"]:
        """Return predictions in the units of `targets`."""
        # Centred targets have mean 0: what is added to f is that of the smoother alone.
        return torch.cat(
            [
                self.smoothers[s].predict(compared, self.targets[:, [o]])
                for o, s in enumerate(self.smoother_of)
            ],
            dim=1,
        )

    def below_constant(self, compared: Float64[Tensor, "m _"]) -> Float64[Tensor, "m 1"]:
        """Return 1 minus what is predicted of the target 1 at each query."""
        return 1 - self.smoothers[0].predict(compared, torch.ones_like(self.targets[:, :1]))

    def inputs_of(self, name: str, inputs: Any) -> Float64[Tensor, "m d"]:
        """Return inputs as numbers, as many a row as in training."""
        points = inputs_of(inputs, name=name)
        if points.shape[1:] != self.train.inputs.shape[1:]:
            raise ShapeError(
                f"`{name}` must have {self.train.inputs.shape[1]} columns, as the estimator was fitted to; "
                f"got shape {tuple(points.shape)}."
            )
        return points

    def queries(self, query: Any) -> Examples:
        """Return queries with targets in the units of `targets`.

        Args:
            query: a pair (X, y), as the estimator takes them; or Examples of numbers.

        Raises:
            OptionError: neither.
            DataError, ShapeError: other columns or classes than those of training.
        """
        if isinstance(query, Examples) and query.classes is None and self.columns.classes is None:
            query = query.inputs, query.encoding.in_target_units(query.targets)
        if not isinstance(query, tuple | list) or len(query) != 2:
            raise OptionError(
                "`query` must be a pair (X, y) of what the estimator takes and what is true there; got "
                f"{type(query).__name__}."
            )
        inputs = self.inputs_of("query inputs", query[0])
        targets = self.columns.encode("query targets", query[1])
        if len(targets) != len(inputs):
            raise ShapeError(
                f"`query` must hold as many targets as inputs; got {len(targets)} and {len(inputs)}."
            )
        return Examples(inputs=inputs, targets=targets - self.offset, encoding=self.train.encoding)

    def relabel_weights(
        self, rows: Int64[Tensor, " e"], targets: Float64[Tensor, "e k"]
    ) -> Float64[Tensor, " e"]:
        """Return what training examples weigh with other targets, times what they weigh now.

        Args:
            targets: in the units that they were given in.

        Raises:
            OptionError: an example of a class that weighs nothing.
        """
        codes, class_weights = self.columns.codes, self.columns.class_weights
        if codes is None or class_weights is None:
            return torch.ones_like(targets[:, 0])
        before, after = (
            class_weights[torch.cdist(columns, codes).argmin(1)]
            for columns in (self.targets[rows] + self.offset, targets)
        )
        if not bool((before > 0).all()):
            row = int(rows[int((before <= 0).nonzero()[0])])
            raise OptionError(
                f"Example {row} is of a class of weight 0, and would weigh infinitely more with another "
                f"label: fit {self.name} again with that."
            )
        return after / before

    def query_blocks(self, query: Examples) -> Iterator[EstimatorBlock]:
        """Yield queries in blocks that the memory holds."""
        row = 8 * 6 * max(len(self), query.inputs.shape[1])
        for rows in blocks(len(query), max(1, min(len(query), self.memory // row))):
            compared = self.comparison(query.inputs[rows])
            yield EstimatorBlock(rows, compared, query.targets[rows], self.predictions(compared))

    def times(self, at: At | Sequence[At]) -> tuple[float, ...]:
        """Return the end of training, as often as it is asked for; raise if another time is."""
        values = as_list("at", at)
        moments = list(values) if isinstance(values, list | tuple | range) else [values]
        if not moments:
            raise OptionError("`at` must hold at least one training time; got none.")
        for moment in moments:
            if moment is not None and moment != math.inf:
                raise OptionError(
                    f"`at` must be None: {self.name} is a minimum and has no training time; got "
                    f"{shown(moment)}. Fit a kernel with GradientFlow or GradientDescent for that."
                )
        return (math.inf,) * len(moments)

    def comparison(self, inputs: Float64[Tensor, "m d"]) -> Float64[Tensor, "m _"]:
        """Return what smoothers compare: the kernel to the training inputs, or features."""
        return self._compare(inputs)
