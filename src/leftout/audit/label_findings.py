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
class LabelFindings:
    """What is said of labels by a model that has not seen them; `note` where it is not the one audited.

    `out_of_sample` is what that other model predicts of the training examples, each without itself.
    """

    doubted: Mislabelled
    rare: tuple[Rare, ...]
    out_of_sample: Float64[Tensor, "n k"] | None = None
    note: str = ""


def label_findings(fitted: Fitted, time: float) -> LabelFindings:
    """Return doubted labels and under-sampled examples; none where no model can be asked."""
    unseen = label_model(fitted)
    model = unseen.fitted
    if model is None:
        unknown = fitted.train.targets.new_full(fitted.train.targets.shape, math.nan)
        return LabelFindings(Mislabelled(unknown[:, 0], ()), (), unknown, unseen.note)
    left_out = out_of_sample(model).cpu() if unseen.note else None
    return LabelFindings(find_mislabelled(model, at=time), rare(model, at=time), left_out, unseen.note)
