"""Are the weights of a network what they are said to be? Its answers to the training examples tell.

Whether it knows the labels at all is an exact tail: were its answers independent of the labels, the number
that it has right would be binomial, of n answers and the chance Σ_c P(says c) P(is c); of numbers to predict,
the correlation of outputs and targets is tested. How much it knows is a share, 1 of everything: the squared
error, or the cross-entropy, beside that of the best constant answer.

    "trained" weights   are doubted where not even the tail says that they know anything
    "initial" weights   where it does, and they know most: random weights do not. The tail alone would not
                        do: where classes are clusters, one random network in thirteen is beyond it
    cross-entropy       where outputs are nearly the targets themselves, as squared loss makes them
    squared loss        where classes are told apart, but outputs are further from the targets than a constant
                        is, whatever is added to them: those of cross-entropy, which makes them large. No
                        training by squared loss ends there, as a constant is what it learns first. Also
                        where outputs meet the targets as they were before a centre was subtracted
"""

import math
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import OptionError, WeightsWarning
from leftout.data.examples import Examples
from leftout.dynamics.losses import CROSS_ENTROPY
from leftout.dynamics.rules import Logistic, Ridge, Rule
from leftout.kernels.base import Kernel

PLAIN = 1e-6
"""Tail probability below which answers plainly depend on the labels."""

CHANCE = 0.01
"""Tail probability above which they may be guesses."""

MOST_UNTRAINED = 0.7
"""Share beyond which weights are no initial ones. Of 7,200 networks with random weights, on 2, 3 or
10 kinds of digits in three scalings, 565 were beyond the tail and none explained more than 0.65; trained to
the end they explain 0.9 to 1, by either loss (tests/dynamics/test_weights_check.py tries some of both)."""

CLASSIFIER = 0.1
"""Share of the entropy that a trained classifier explains at least."""

LEARNED_SQUARES = 0.9
"""Share of the squared error from which outputs are those of training by it, to its end: logits that grow
past the targets explain up to 0.84 for a moment, and then less than a constant does."""

FEWEST = 30
"""Examples from which a network that knows something would show it."""


@dataclass(frozen=True)
class Knowledge:
    """What answers know of the targets.

    Attributes:
        tail: probability that independent answers would agree with the targets as well.
        explained: 1 − squared error / that of the best constant.
        spread_explained: the same with the best constant added to the outputs.
        entropy_explained: 1 − cross-entropy / that of the class shares; −inf of numbers to predict.
        accuracy: share of right answers; None of numbers to predict.
    """

    tail: float
    explained: float
    spread_explained: float
    entropy_explained: float
    accuracy: float | None


def check_weights(kernel: Kernel, train: Examples, rule: Rule) -> None:
    """Raise or warn where the weights of a network are plainly not what the kernel says of them.

    Raises:
        OptionError: squared loss of the outputs of a network that was trained by cross-entropy.

    Warns:
        WeightsWarning: initial weights that have plainly seen the labels, trained ones that know nothing, or
            cross-entropy of outputs that squared loss has trained.

    Cost:
        a forward pass over the training examples; nothing of kernels without a network.
    """
    outputs = kernel.initial(train.inputs)
    if outputs is None or tuple(outputs.shape) != tuple(train.targets.shape):
        return
    known = knowledge(outputs.to(train.targets), train)
    right = "" if known.accuracy is None else f", and is right on {known.accuracy:.0%} of them"
    plain = known.tail <= PLAIN
    if kernel.is_trained and plain and isinstance(rule, Ridge):
        _check_squared_loss(known, outputs.to(train.targets), train)
    if kernel.is_trained and plain and isinstance(rule, Logistic) and known.explained > LEARNED_SQUARES:
        _warn(
            f"The outputs of the network are the targets themselves, to {known.explained:.0%}, and no "
            "logits: it seems to be trained by squared loss. Pass rule=lo.Ridge(ridge) (--loss squared)."
        )
    share = max(known.explained, known.entropy_explained)
    if not kernel.is_trained and plain and share > MOST_UNTRAINED:
        _warn(
            f"The network already explains {share:.0%} of the training targets{right}, at weights that are "
            'called initial: if it was trained on these examples, pass weights="trained" '
            "(--linearised-at trained)."
        )
    if kernel.is_trained and known.tail > CHANCE and len(train) >= FEWEST:
        _warn(
            f"The network, at weights that are called trained, knows nothing of the training targets{right}: "
            "prepare inputs as for its training, or, if training starts from these weights, pass "
            'weights="initial" (--linearised-at initial).'
        )


def _check_squared_loss(known: Knowledge, outputs: Float64[Tensor, "n k"], train: Examples) -> None:
    """Raise where outputs that know the targets are not those of training by squared loss on them."""
    if known.entropy_explained > CLASSIFIER and known.spread_explained < 0:
        raise OptionError(
            "`rule` must not have a squared loss for a network that was trained by cross-entropy: its "
            f"outputs are right on {known.accuracy:.0%} of the training examples, and further from their "
            "targets than constants are. Pass rule=lo.Logistic(ridge)."
        )
    errors = [(outputs - targets).square().sum() for targets in _with_and_without_centre(train)]
    if float(errors[1]) < float(errors[0]) / 2:
        raise OptionError(
            "`train` must have the targets that the network was trained on: its outputs are those before "
            f'centring ("{train.encoding.centre}"). Load with centre="none" (--centre none); of a pair, pass '
            "one-hot columns of floats instead of classes."
        )


def _with_and_without_centre(train: Examples) -> tuple[Tensor, Tensor]:
    return train.targets, train.encoding.in_target_units(train.targets)


def knowledge(outputs: Float64[Tensor, "n k"], train: Examples) -> Knowledge:
    """Return what outputs, in the units of targets, know of the targets."""
    # One column of probabilities stands for ∓1: what a network of squared loss learns.
    one_column = train.encoding.as_probabilities and train.encoding.outputs == 1
    targets = 2 * train.targets - 1 if one_column else train.targets
    centred = targets - targets.mean(0)
    constant = float(centred.square().sum())
    error = outputs - targets
    errors = (error, error - error.mean(0))
    explained, spread = (1 - float(e.square().sum()) / constant if constant else -math.inf for e in errors)
    if train.labels is None:
        return Knowledge(_correlation_tail(outputs, centred), explained, spread, -math.inf, None)
    answers = train.encoding.decode(outputs)
    return Knowledge(
        _agreement_tail(answers, train.labels),
        explained,
        spread,
        _entropy_explained(outputs, train),
        float((answers == train.labels).double().mean()),
    )


def _agreement_tail(answers: Tensor, labels: Tensor) -> float:
    """Return the probability of as many right answers, were they drawn in their shares at random."""
    n, classes = len(labels), int(max(answers.max(), labels.max())) + 1
    says, is_ = (torch.bincount(numbers, minlength=classes).double() / n for numbers in (answers, labels))
    right = int((answers == labels).sum())
    chance = float(says @ is_)
    if right == 0 or chance >= 1:
        return 1.0
    if chance <= 0:
        return 0.0
    j = torch.arange(right, n + 1, dtype=torch.float64, device="cpu")
    ways = math.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(n - j + 1)
    return min(1.0, float((ways + j * math.log(chance) + (n - j) * math.log1p(-chance)).exp().sum()))


def _correlation_tail(outputs: Float64[Tensor, "n k"], centred: Float64[Tensor, "n k"]) -> float:
    """Return the probability of as large a correlation of independent normal numbers."""
    answers = outputs - outputs.mean(0)
    size = float(answers.norm() * centred.norm())
    correlation = min(1.0, float((answers * centred).sum()) / size) if size else 0.0
    if len(outputs) < 3 or correlation <= 0:
        return 1.0
    # The correlation is sin θ, and θ has a density in proportion to cos^(n − 3) θ.
    n = len(outputs)
    angles = torch.linspace(math.asin(correlation), math.pi / 2, 20_001, dtype=torch.float64, device="cpu")
    inside = torch.trapezoid(angles.cos().clamp(min=0) ** (n - 3), angles)
    every = math.sqrt(math.pi) * math.exp(math.lgamma((n - 2) / 2) - math.lgamma((n - 1) / 2))
    return float(inside) / every


def _entropy_explained(outputs: Float64[Tensor, "n k"], train: Examples) -> float:
    """Return 1 − cross-entropy of outputs as logits / entropy of the class shares."""
    labels = train.labels
    assert labels is not None
    shares = torch.bincount(labels).double() / len(labels)
    entropy = float(torch.special.entr(shares).sum())
    if entropy == 0 or train.classes is None:
        return -math.inf
    columns = outputs.shape[1]
    if columns != len(train.classes) and (columns, len(train.classes)) != (1, 2):
        return -math.inf
    targets = CROSS_ENTROPY.coded(train, columns, "train").targets
    return 1 - CROSS_ENTROPY.mean(outputs, targets) / entropy


def _warn(message: str) -> None:
    # As if the caller of `fit` had been told.
    warnings.warn(message, WeightsWarning, stacklevel=4)


def check_unseen(name: str, kernel: object, question: str) -> None:
    """Raise where a question needs a kernel that has not seen the labels, and trained weights have.

    Args:
        name: of the argument that holds the kernel.
        question: what is asked, as a noun.
    """
    if isinstance(kernel, Kernel) and kernel.is_trained:
        raise OptionError(
            f"`{name}` must not have seen the labels for {question}, and trained weights have: they answer "
            "training examples too well. Take an analytic kernel, such as kernels.ReLU(2), or "
            'weights="initial" with the weights before training.'
        )


def check_starts_here(kernel: Kernel, question: str) -> None:
    """Raise where a question is about training from these weights, and they are trained already."""
    if kernel.is_trained:
        raise OptionError(
            f"`fitted` must start from initial weights for {question}; this one stands at trained weights, "
            'which no training moves. Pass Empirical(module, weights="initial") with the weights before '
            "training (--linearised-at initial)."
        )
