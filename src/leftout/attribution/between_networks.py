"""A question to one model, asked of several networks: the mean answer, and how far apart they are.

Networks of one architecture and data differ by their seeds and by when their training ended, and so do the
effects of single examples; what they have in common is in the mean.
"""

import functools
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar, cast

import torch
import xarray as xr
from torch import Tensor

from leftout.core.errors import OptionError
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.fitted_networks import FittedNetworks, mean_and_deviation

Question = TypeVar("Question", bound=Callable[..., Any])

BETWEEN = "between_networks"


def asked_of_networks(question: Question) -> Question:
    """Return a question of a model that may be asked of `FittedNetworks` as well.

    A labelled array becomes a Dataset of its mean and of `between_networks`, the standard deviation between
    networks; a tensor becomes its mean.

    Raises:
        OptionError: an answer of which there is no mean, such as a list of examples for each query.
    """

    @functools.wraps(question)
    def ask(fitted: Fitted | FittedNetworks, *arguments: Any, **options: Any) -> Any:
        if not isinstance(fitted, FittedNetworks):
            return question(fitted, *arguments, **options)
        # Every network is asked the same: times that can be read but once are read here.
        arguments = tuple(tuple(held) if isinstance(held, Iterator) else held for held in arguments)
        options = {
            name: tuple(held) if isinstance(held, Iterator) else held for name, held in options.items()
        }
        answers = (question(member, *arguments, **options) for member in fitted.members)
        first = next(answers)
        rest = chain([first], answers)
        if isinstance(first, Tensor):
            return mean_and_deviation(rest)[0]
        if not isinstance(first, xr.DataArray):
            raise OptionError(
                f"`fitted` holds several networks, of which {question.__name__} gives a mean of scores, and "
                "no mean of lists or of spreads: leave `top` and `spread` out, or ask one of fitted.members."
            )
        return _mean_and_deviation(fitted, first, rest)

    return cast(Question, ask)


def _mean_and_deviation(
    fitted: FittedNetworks, first: xr.DataArray, answers: Iterator[xr.DataArray]
) -> xr.Dataset:
    """Return the mean of answers under their name, and the standard deviation between them."""
    pair = mean_and_deviation(torch.from_numpy(answer.values) for answer in answers)
    mean, deviation = (first.copy(data=values.numpy()) for values in pair)
    attrs = dict(first.attrs) | {
        "networks": len(fitted.members),
        "kernel": json.dumps([member.kernel.record for member in fitted.members]),
        "fitted_fingerprint": fitted.record["weights"],
    }
    deviation.attrs["sign"] = "a standard deviation between networks: no sign"
    return xr.Dataset({str(first.name): mean, BETWEEN: deviation}, attrs=attrs)
