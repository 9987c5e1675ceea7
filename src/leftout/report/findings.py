"""The findings of an audit: one frozen record for the report, the tables and the command line."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.core.certificate import Certificate
from leftout.curation.duplicates import Duplicates
from leftout.curation.label_scores import LabelScores
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
from leftout.diagnostics.trust.retrained_answers import Measured
from leftout.dynamics.losses import SQUARED, ExampleLoss
from leftout.dynamics.ridge_choice import RidgeChoice
from leftout.report.telling_columns import TellingColumns


@dataclass(frozen=True)
class ModelAtTime:
    """The model at one training time: how well it predicts, with and without each example.

    Attributes:
        at: training time (flow) or step (descent); inf is the end of training.
        predictions: at the queries, (m, k).
        out_of_sample: at the training examples, each without itself, (n, k).
        query_loss: mean over queries of the loss.
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
    """All that an audit found; lists are in the order in which a person should look at them.

    Attributes:
        settings: what was audited and how, as label and value, in reading order.
        at_times: the model at each training time asked for, ascending, as in `scores.at`. Lists, order of
            removal and certificate are of the last of them.
        scores: influence in loss units, dims (at, query, train); positive = the example helped.
        margins: left-out margin of each training label; the smallest are doubted first.
        label_scores: what is said of every training label; None where no model can be asked.
        refusal: why nothing is doubted or called removable, where the model knows nothing of the labels; else
            "".
        dominant: that one number to predict decides what is said of the others, and what to do; else "".
        learned: when each example was learned; None where training has no time (ridge), or was asked
            about before it began.
        linearisation_gap: the model beside the network that it stands for; None for kernels of infinitely
            wide networks, and approximate ones.
        of_network: whether the kernel is that of a network of the user's own.
        is_trained: whether that network stands at its trained weights, which have seen the labels.
        trust: which answers about a trained network to trust, by `lo.trust`; None where that is not known.
        no_verdict: why not, in a sentence; empty where it is, and for models that are no trained network.
        measured: how the answers agree with networks that were trained again, where that was asked for.
        label_note: which other model doubts labels and predicts examples without themselves, where the
            weights have seen them, or why none does (margins are NaN then); empty if the model itself does.
        subclasses: kinds within classes of which there are too few.
        sources: what each source of examples is worth; None where none were named.
        retrained_removal: the removal curve of the network itself, trained again; None where it was not.
        learning_curve: error and accuracy to be expected of more examples; None where they cannot be
            predicted.
        no_learning_curve: why they cannot; empty where they can.
        selection: what the kernel was chosen from; None where it was given.
        depends_on_labels: whether the kernel was fitted to labels, and again without each example. Removal of
            many, kinds, sources, training time and the learning curve then keep it as all labels made it.
        loss: what the model minimises, and what influence is measured in.
        ridge_choice: what the ridge was chosen from by left-out loss; None where it was given.
    """

    train: Examples
    query: Examples
    settings: dict[str, Any]
    at_times: tuple[ModelAtTime, ...]
    scores: xr.DataArray
    margins: Float64[Tensor, " n"]
    suspects: tuple[Suspect, ...]
    redundant: Pruned
    rare: tuple[Rare, ...]
    outliers: tuple[Outlier, ...]
    duplicates: tuple[Duplicates, ...]
    certificate: Certificate
    learned: Learned | None = None
    linearisation_gap: LinearisationGap | None = None
    of_network: bool = False
    is_trained: bool = False
    trust: xr.Dataset | None = None
    no_verdict: str = ""
    measured: tuple[Measured, ...] = ()
    label_note: str = ""
    refusal: str = ""
    dominant: str = ""
    label_scores: LabelScores | None = None
    subclasses: tuple[Subclass, ...] = ()
    sources: Sources | None = None
    retrained_removal: PruneCheck | None = None
    learning_curve: LearningCurve | None = None
    no_learning_curve: str = ""
    selection: Selection | None = None
    depends_on_labels: bool = False
    loss: ExampleLoss = SQUARED
    ridge_choice: RidgeChoice | None = None

    @cached_property
    def columns(self) -> TellingColumns:
        """Return the columns of a table, of which an example shows those that tell most about it."""
        return TellingColumns(self.train, self.query)

    @property
    def doubts_labels(self) -> bool:
        """Return whether a model that has not seen the labels was asked about them."""
        return not bool(self.margins.isnan().any())

    @property
    def no_doubts(self) -> str:
        """Return why no label could be doubted; empty where one could."""
        return self.refusal or ("" if self.doubts_labels else self.label_note)

    @property
    def one_step(self) -> bool:
        """Return whether single removals are one Newton step, an approximation, as under cross-entropy."""
        return self.loss is not SQUARED and not self.depends_on_labels

    @property
    def verdict(self) -> str:
        """Return whether the answers speak for the network trained again; empty of other models."""
        if not self.is_trained:
            return ""
        measured = "".join(f" Measured: {each.sentence}" for each in self.measured)
        if self.trust is not None:
            return f"{self.trust.attrs['verdict']}{measured}"
        if measured:
            return f"No verdict but the measurement. {self.no_verdict}{measured}"
        return (
            "No verdict: whether these answers speak for the network trained again is not known. "
            f"{self.no_verdict} --retrain-subsets and leftout referee measure it. Rely on groups, and on the "
            "order of examples, before single ones."
        )

    @property
    def at_last_time(self) -> ModelAtTime:
        """Return the model at the last training time asked for."""
        return self.at_times[-1]

    def typical_error(self, loss: float) -> float:
        """Return the root mean square error of one output, in target units, of a mean loss ½ Σ (…)²."""
        return math.sqrt(2 * loss / self.train.encoding.outputs)

    @property
    def time_unit(self) -> str:
        """Return what training times count: "step"s of descent, or "time"."""
        return "step" if "descent" in str(self.scores.attrs.get("rule", "")).lower() else "time"
