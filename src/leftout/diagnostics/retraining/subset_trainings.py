"""The ways in which a network is trained on a subset: a user's function, a recipe, or as `lo.train` did.

Each says what it is (`record`), how many networks it trains at once (`at_once`) and why (`way`), and gives
the outputs at the queries of networks, which are rows of the training examples and a seed each.
"""

import inspect
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, final

from torch import Tensor, nn

from leftout.core.errors import LeftoutError, NotConvergedWarning, OptionError
from leftout.core.fingerprint import fingerprint
from leftout.core.wording import exception_text
from leftout.data.examples import Examples
from leftout.diagnostics.retraining.query_losses import LossName, loss_name
from leftout.diagnostics.retraining.sgd_training import (
    Network,
    SGDTraining,
    outputs_at,
    reason_to_train_alone,
    train_alone,
    train_together,
)
from leftout.dynamics.train import Trained, state_fingerprint, train

TrainFunction = Callable[[Examples, int], Any]
"""Trains on a subset with a seed, and returns a network or a function of the inputs."""

MOST_AT_ONCE = 64
"""Networks trained at once: beyond, calls take no share of the time that could be saved."""

WEIGHT_BYTES = 2**23
"""Bytes of weights trained at once: beyond, they leave the cache of a processor."""

Outcome = tuple[Tensor, str]
"""Outputs at the queries, and how training ended where that is to be said."""


class SubsetTraining(ABC):
    """A way of training on subsets.

    Attributes:
        record: what it is, JSON-like: everything that decides the numbers.
        loss: of the queries.
        at_once: networks trained together.
        way: that in words, with the reason.
    """

    record: dict[str, Any]
    loss: LossName
    at_once: int = 1
    way: str

    @abstractmethod
    def outcomes(self, train: Examples, networks: Sequence[Network], query: Tensor) -> list[Outcome]:
        """Return the outputs of each network at the queries."""

    def seconds(self, train: Examples, networks: Sequence[Network]) -> float | None:
        """Return about what training these networks takes by one thread; None where that is not known."""
        return None


@final
class FunctionTraining(SubsetTraining):
    """A user's function."""

    def __init__(self, function: TrainFunction, loss: LossName) -> None:
        self.function = function
        self.loss = loss
        self.way = "one after another: a function trains one network at a time"
        name = getattr(function, "__qualname__", type(function).__qualname__)
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            text = name
        self.record = {"training": "function", "name": name, "text": fingerprint(text)}

    def outcomes(self, train: Examples, networks: Sequence[Network], query: Tensor) -> list[Outcome]:
        return [(self._outputs(train.select(rows), seed, query), "") for rows, seed in networks]

    def _outputs(self, train: Examples, seed: int, query: Tensor) -> Tensor:
        try:
            model = self.function(train, seed)
        except LeftoutError:
            raise
        except Exception as error:
            raise OptionError(
                f"`train_function` must train on a subset with a seed; on {len(train)} examples with seed "
                f"{seed} it raised {exception_text(error)}"
            ) from error
        if not callable(model):
            raise OptionError(
                "`train_function` must return a network, or a function that predicts from inputs; got "
                f"{type(model).__name__}."
            )
        return outputs_at(model, query)


@final
class RecipeTraining(SubsetTraining):
    """An `SGDTraining`: many small networks together, where torch.func can stack them."""

    def __init__(self, recipe: SGDTraining, train: Examples, at_once: int | None) -> None:
        self.recipe = recipe
        self.loss = loss_name(recipe.loss, train)
        module = recipe.network(0)
        size = sum(weight.numel() * weight.itemsize for weight in module.parameters())
        self.record = recipe.record | {
            "loss": self.loss,
            "rates": fingerprint(recipe.rates(len(train))),
            "network": str(module),
            "initial": state_fingerprint(module),
        }
        reason = "asked for" if at_once == 1 else reason_to_train_alone(recipe, train)
        fits = max(1, min(MOST_AT_ONCE, WEIGHT_BYTES // max(1, size)))
        if not reason and at_once is None and fits == 1:
            reason = "so large a network gains nothing"
        self.at_once = 1 if reason else (at_once or fits)
        self.way = f"one after another: {reason}" if reason else f"{self.at_once} networks at once"

    def outcomes(self, train: Examples, networks: Sequence[Network], query: Tensor) -> list[Outcome]:
        return [(outputs_at(module, query), "") for module in self._modules(self.recipe, train, networks)]

    def seconds(self, train: Examples, networks: Sequence[Network]) -> float | None:
        """Return about what training takes, from trials of one step and of five."""
        short, long = (self._trial(train, networks, steps) for steps in (1, 5))
        step = max(long - short, 0.0) / 4
        return short + step * self.recipe.steps(len(networks[0][0]))

    def _trial(self, train: Examples, networks: Sequence[Network], steps: int) -> float:
        """Return the seconds of some steps, the second time: the first time much is loaded."""
        size = min(len(networks[0][0]), steps * self.recipe.batch_size)
        first_rows = [(rows[:size], seed) for rows, seed in networks]
        trial = SGDTraining(**vars(self.recipe) | {"epochs": 1})
        for _ in range(2):
            began = time.perf_counter()
            self._modules(trial, train, first_rows)
            seconds = time.perf_counter() - began
        return seconds

    def _modules(self, recipe: SGDTraining, train: Examples, networks: Sequence[Network]) -> list[nn.Module]:
        if self.at_once == 1:
            return [train_alone(recipe, train, network) for network in networks]
        return train_together(recipe, train, networks)


@final
class TrainedAgain(SubsetTraining):
    """The training of a `Trained`: by full batches, from its initial weights, to its tolerance."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.loss = "squared"
        self.way = "one after another: trained to a tolerance"
        self.record = {
            "training": "lo.train",
            "network": str(trained.record["shape"]),
            "initial": state_fingerprint(trained.initial),
            "rule": trained.rule.record,
            "tolerance": trained.tolerance,
            "limit": trained.limit,
        }

    def outcomes(self, train_examples: Examples, networks: Sequence[Network], query: Tensor) -> list[Outcome]:
        return [self._outcome(train_examples.select(rows), query) for rows, _ in networks]

    def _outcome(self, examples: Examples, query: Tensor) -> Outcome:
        trained = self.trained
        again = train(
            trained.initial,
            examples,
            rule=trained.rule,
            steps=trained.limit,
            tolerance=trained.tolerance,
            memory=trained.memory,
        )
        return again.predict(query).cpu(), "" if again.as_asked else again.status


def subset_training(
    train_function: TrainFunction | SGDTraining | Trained,
    train: Examples,
    *,
    seeds: Sequence[int],
    loss: LossName | None,
    at_once: int | None,
) -> SubsetTraining:
    """Return the way of training that was given.

    Raises:
        OptionError: it is none; or seeds, a loss or a number of networks at once that it has not.
    """
    if isinstance(train_function, Trained):
        if len(seeds) > 1:
            raise OptionError(
                "`seeds` must be one for a network from `train`, whose training has no randomness: more "
                f"would give the same numbers; got {len(seeds)}. Train networks of other initial weights "
                "instead."
            )
        _check_loss(loss, "squared", "a network from `train`")
        training: SubsetTraining = TrainedAgain(train_function)
    elif isinstance(train_function, SGDTraining):
        training = RecipeTraining(train_function, train, at_once)
        _check_loss(loss, training.loss, "this recipe; say it there")
    elif callable(train_function) and not isinstance(train_function, nn.Module | type):
        training = FunctionTraining(train_function, loss_name(loss, train))
    else:
        raise OptionError(
            "`train_function` must be a function of (train, seed) that returns a trained network, an "
            f"SGDTraining, or a network from `train`; got {type(train_function).__name__}."
        )
    if at_once not in (None, 1) and not isinstance(training, RecipeTraining):
        raise OptionError(f"`at_once` belongs to an SGDTraining; training is {training.way}. Leave it out.")
    return training


def _check_loss(loss: LossName | None, expected: LossName, subject: str) -> None:
    if loss not in (None, expected):
        raise OptionError(f"`loss` must be {expected!r} for {subject}; got {loss!r}.")


def warn_of_short_trainings(statuses: Sequence[str]) -> int:
    """Return how many trainings stopped short of a tolerance, after a warning where any did."""
    short = [status for status in statuses if status]
    if short:
        warnings.warn(
            f"{len(short)} of {len(statuses)} networks trained again stopped short of convergence; one of "
            f"them {short[0]}",
            NotConvergedWarning,
            stacklevel=3,
        )
    return len(short)
