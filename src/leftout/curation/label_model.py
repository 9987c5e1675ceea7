"""Which model doubts the labels of a network that was trained on them? Another one, which has not seen them.

A network at its trained weights answers for a training example what its weights remember of it, and taking
the example out of the last fit does not take it out of the weights. So wrong labels are looked for with the
kernel of an infinitely wide network, and its exact left-out predictions, at the ridge that makes these best:

    ReLU(2, bias_variance=0.3)      of inputs standardised column by column, pictures by one number for all

at an eigendecomposition, of n × n whatever the number of outputs.
"""

from dataclasses import dataclass, replace

from torch import nn

from leftout.core.work import WorkCount
from leftout.data.encoding import encoding_of_classes
from leftout.data.examples import Examples
from leftout.data.normalise import normalise_inputs
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Ridge
from leftout.kernels.assemble import gram_work
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.default import DEFAULT_KERNEL, DEFAULT_NORMALISE
from leftout.solvers.spectrum import spectrum_work


@dataclass(frozen=True, eq=False)
class LabelModel:
    """What doubts labels, and says what is predicted of a training example without it.

    Attributes:
        fitted: a model whose kernel has not seen the labels; None where the inputs allow none.
        note: which it is, or why there is none, in a sentence; empty where it is the model that is asked.
    """

    fitted: Fitted | None
    note: str = ""


def label_model(fitted: Fitted) -> LabelModel:
    """Return the model itself, or for a network at its trained weights one that has not seen the labels.

    Cost:
        nothing for the model itself; else an n × n kernel matrix and its eigendecomposition.
    """
    if not fitted.kernel.is_trained:
        return LabelModel(fitted)
    reason = _why_not(fitted)
    if reason:
        return LabelModel(
            None,
            "Labels are not doubted here, nor are examples predicted without themselves: the trained weights "
            f"have seen every label, and {reason}. Ask a kernel that has not seen them.",
        )
    examples = _standardised(_as_numbers(fitted.train))
    model = fit(DEFAULT_KERNEL, examples, rule=Ridge("auto"), device=fitted.device, memory=fitted.memory)
    assert model.ridge_choice is not None
    share = model.ridge_choice.ridge / model.ridge_choice.diagonal
    return LabelModel(
        model,
        "The trained weights have seen every label, so labels are doubted, and examples predicted without "
        f"themselves, by a kernel that has not: of an infinitely wide ReLU network with 2 hidden layers, at "
        f"the ridge of least left-out loss, {share:.2g} of its mean diagonal.",
    )


def _why_not(fitted: Fitted) -> str:
    """Return why no kernel of the inputs themselves can be taken; empty where one can."""
    kernel, inputs = fitted.kernel, fitted.train.inputs
    if isinstance(kernel, Empirical) and any(
        isinstance(part, nn.Embedding) for part in kernel.module.modules()
    ):
        return "its inputs are numbers of words, which no kernel of inputs compares"
    if bool((inputs == inputs[0]).all()):
        return "its inputs are all alike"
    return ""


def _as_numbers(train: Examples) -> Examples:
    """Return the examples with targets for squared loss, in as many columns."""
    encoding = train.encoding
    if not encoding.as_probabilities:
        return train
    if train.labels is None or encoding.classes is None:  # soft labels
        return replace(train, encoding=replace(encoding, as_probabilities=False))
    columns = encoding_of_classes(train.labels, encoding.classes, outputs=encoding.outputs)
    return train.coded_as(columns)


def _standardised(train: Examples) -> Examples:
    """Return the examples with inputs minus their mean, over their standard deviation."""
    inputs, _, _ = normalise_inputs(
        train.inputs,
        train.inputs[:1],
        normalise=DEFAULT_NORMALISE,
        pictures=train.inputs.ndim > 2,
        ids=(train.ids, train.ids[:1]),
    )
    return replace(train, inputs=inputs)


def label_model_work(rows: int) -> WorkCount:
    """Return the work of a model of its own for so many examples."""
    return gram_work(rows) + spectrum_work(rows)


def label_model_bytes(rows: int) -> int:
    """Return its bytes: kernel matrix, eigenvectors and the workspace of both; factor and inverse."""
    return 6 * 8 * rows**2
