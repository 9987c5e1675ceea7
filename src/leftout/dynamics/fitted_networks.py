"""Several networks fitted to the same examples: their mean answer, and how far apart they are."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.fingerprint import fingerprint
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At, Rule


@final
class FittedNetworks:
    """Models of several networks, of the same examples under the same rule. Made by `fit`.

    Predictions are means over the networks. `leave_one_out`, `leave_out`, `relabel`, `reweight`, `add` and
    `first_order` give a Dataset with the mean effect, `influence`, and the standard deviation between the
    networks, `between_networks`; other questions are asked of one of `members`.

    Attributes:
        members: the fitted models, one for each network.

    Example:
        >>> import leftout as lo, torch
        >>> data = torch.eye(3, 2).double(), torch.tensor([[1.0], [-1.0], [0.5]])
        >>> networks = [torch.nn.Linear(2, 1).double() for _ in range(3)]
        >>> fitted = lo.fit(lo.kernels.Empirical(networks), data, rule=lo.Ridge(0.1))
        >>> list(lo.leave_one_out(fitted, data))
        ['influence', 'between_networks']
    """

    def __init__(self, members: tuple[Fitted, ...]) -> None:
        self.members = members

    def __len__(self) -> int:
        return len(self.train)

    def __repr__(self) -> str:
        return f"FittedNetworks({len(self.members)} networks, {len(self)} examples, rule={self.rule!r})"

    @property
    def train(self) -> Examples:
        return self.members[0].train

    @property
    def rule(self) -> Rule:
        return self.members[0].rule

    def predict(self, inputs: Any, at: At = None) -> Float64[Tensor, "m k"]:
        """Return the mean over the networks of what they predict; arguments as for `Fitted.predict`."""
        return self.mean_and_deviation(lambda member: member.predict(inputs, at))[0]

    def probabilities(self, inputs: Any) -> Float64[Tensor, "m classes"]:
        """Return the mean over the networks of the probabilities of classes, under Logistic."""
        return self.mean_and_deviation(lambda member: member.probabilities(inputs))[0]

    def mean_and_deviation(self, ask: Callable[[Fitted], Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation over the networks of a tensor that each of them gives.

        Cost:
            three such tensors in memory, whatever the number of networks.
        """
        return mean_and_deviation(map(ask, self.members))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what these models are; JSON-like."""
        records = [member.record for member in self.members]
        return {"networks": records, "weights": fingerprint(*(record["weights"] for record in records))}


def mean_and_deviation(tensors: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, of one less than their number, of tensors that come one by one."""
    mean = next(tensors).clone()
    squares, count = torch.zeros_like(mean), 1
    for tensor in tensors:
        count += 1
        change = tensor.to(mean) - mean
        mean += change / count
        squares += change * (tensor.to(mean) - mean)
    return mean, (squares / (count - 1)).sqrt()
