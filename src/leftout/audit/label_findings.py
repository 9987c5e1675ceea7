"""What an audit says of labels: by the model itself, or by another one where its weights have seen them."""

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.leave_one_out import out_of_sample
from leftout.curation.label_model import label_model
from leftout.curation.mislabelled import Mislabelled, find_mislabelled
from leftout.curation.rare import Rare, rare
from leftout.dynamics.fitted import Fitted


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What a model that has not seen the labels predicts of the training examples, each without itself.

    Attributes:
        predictions: (n, k), NaN where there is no such model.
        loss: its mean loss, in its own units; NaN likewise.
        accuracy: share of right classes; None likewise, and of regression.
    """

    predictions: Float64[Tensor, "n k"]
    loss: float
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class LabelFindings:
    """What is said of labels by a model that has not seen them.

    Attributes:
        doubted, rare: by the model audited, or by another one beside trained weights.
        left_out: what that other model predicts; None where it is the one audited.
        note: which it is, or why there is none; empty where it is the one audited.
    """

    doubted: Mislabelled
    rare: tuple[Rare, ...]
    left_out: LeftOut | None = None
    note: str = ""


def label_findings(fitted: Fitted, time: float) -> LabelFindings:
    """Return doubted labels and under-sampled examples; none where no model can be asked."""
    unseen = label_model(fitted)
    model = unseen.fitted
    if model is None:
        unknown = fitted.targets.new_full(fitted.targets.shape, math.nan).cpu()
        return LabelFindings(
            Mislabelled(unknown[:, 0], ()), (), LeftOut(unknown, math.nan, None), unseen.note
        )
    left_out = left_out_by(model, time) if unseen.note else None
    return LabelFindings(find_mislabelled(model, at=time), rare(model, at=time), left_out, unseen.note)


def left_out_by(fitted: Fitted, time: float) -> LeftOut:
    """Return what a model predicts of its training examples, each without itself, and how good that is."""
    predicted = out_of_sample(fitted, time).cpu()
    loss = fitted.rule.example_loss.mean(predicted, fitted.train.targets)
    return LeftOut(predicted, loss, fitted.train.accuracy(predicted))
