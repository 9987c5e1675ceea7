"""What did an audit find? One frozen record: the report, the tables and the reader all use it."""

from dataclasses import dataclass
from typing import Any

import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.core.certificate import Certificate
from leftout.curation.duplicates import Duplicates
from leftout.curation.learned import Learned
from leftout.curation.mislabelled import Suspect
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import Outlier, Rare
from leftout.curation.sources import Sources
from leftout.curation.subclasses import Subclass
from leftout.data.examples import Examples
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap
from leftout.diagnostics.model_selection import Selection


@dataclass(frozen=True)
class Moment:
    """The model at one training time: how well it predicts, with and without each example.

    Attributes:
        at: training time (flow) or step (descent); inf is the end of training.
        predictions: at the queries, (m, k).
        out_of_sample: at the training examples, each without itself, (n, k).
        query_loss: mean over queries of ½ Σ (f − y)².
        left_out_loss: the same over training examples, each predicted without itself.
        query_accuracy: share of queries whose class is right; None for regression.
        left_out_accuracy: the same for the left-out predictions.
    """

    at: float
    predictions: Float64[Tensor, "m k"]
    out_of_sample: Float64[Tensor, "n k"]
    query_loss: float
    left_out_loss: float
    query_accuracy: float | None
    left_out_accuracy: float | None


@dataclass(frozen=True)
class Findings:
    """All that an audit found; lists are in the order a person should look at them.

    Attributes:
        settings: what was audited and how, as label and value, in reading order.
        moments: one per training time asked for, in the order of `scores.at`.
        judged: position in `moments` of the time at which the lists were made.
        scores: influence in loss units, dims (at, query, train); positive = the example helped.
        learned: when each example was learned; None where training has no time (ridge), or was asked
            about before it began.
        linearisation: the model beside the network that it stands for; None for kernels of infinitely
            wide networks, and approximate ones.
        of_network: whether the kernel is that of a network of the user's own.
        subclasses: kinds within classes of which there are too few.
        sources: what each source of examples is worth; None where none were named.
        redundant_again: the removal curve of the network itself, trained again; None where it was not.
        outlook: error and accuracy to be expected of more examples; None where they cannot be foretold.
        no_outlook: why they cannot; empty where they can.
        selection: what the kernel was chosen from; None where it was given.
        depends_on_labels: whether the kernel saw labels and was fitted again without each example. Removal of
            many, kinds, sources, training time and the learning curve then keep it as all labels made it.
    """

    train: Examples
    query: Examples
    settings: dict[str, Any]
    moments: tuple[Moment, ...]
    judged: int
    scores: xr.DataArray
    suspects: tuple[Suspect, ...]
    redundant: Pruned
    rare: tuple[Rare, ...]
    outliers: tuple[Outlier, ...]
    duplicates: tuple[Duplicates, ...]
    certificate: Certificate
    learned: Learned | None = None
    linearisation: LinearisationGap | None = None
    of_network: bool = False
    subclasses: tuple[Subclass, ...] = ()
    sources: Sources | None = None
    redundant_again: PruneCheck | None = None
    outlook: LearningCurve | None = None
    no_outlook: str = ""
    selection: Selection | None = None
    depends_on_labels: bool = False
