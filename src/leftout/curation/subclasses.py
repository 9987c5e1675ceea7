"""Which kind within a class is there too little of? A small group by itself that tells unusually much.

A class may be two: thousands of dogs and two hundred cats, all labelled "pet". The few are predicted from
each other alone, so each of them tells the model far more than an example of the many does, and nobody
labelled them. They are looked for where the kernel would see them: the examples of a class are clustered
(Ward) by their leading kernel principal components, and a cluster is named if it is

    small       at most a fifth of its class,
    apart       the step from it to the nearest other is longer than the steps within the rest,
    telling     its median information lies beyond Tukey's fence of the rest of the class.

An outlier is one example; it takes a handful to be a kind. Where inputs have but one or two dimensions the
thin end of any cloud is such a group, by chance: there, look before you believe it.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float64, Int64
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist
from torch import Tensor

from leftout.attribution.engine.query_blocks import queries_of
from leftout.core.blocks import blocks
from leftout.core.checks import check_choice
from leftout.core.errors import ShapeError
from leftout.core.progress import tracked
from leftout.core.work import WorkCount, passes, product
from leftout.curation.moved import MEASURES, By, moved
from leftout.curation.prune import one_time
from leftout.curation.rare import ROWS, fence_of
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

MEMBERS = 5
"""Fewest of a kind: fewer are outliers, and so far apart from the rest by chance."""

SMALL = 0.2
"""Largest share of the class: the rest is what a kind is compared with."""

USUAL = 0.9
"""Share of the rest whose nearest neighbour is within what counts as a usual step."""

GAP = 1.4
"""Usual steps from a kind to the nearest other, at least.

Ten examples of one digit among 120 of another lie 1.5 to 3 away. In normal clouds of three dimensions and
more nothing reaches 1.3, and of thirty classes of one digit one has a style of writing that reaches 1.46."""

COMPONENTS = 8
"""Kernel principal components that are clustered: of more, distances tell less and less."""

CUTS = 8
"""Most clusters that a class is cut into: a kind may be one of several."""


@dataclass(frozen=True)
class Subclass:
    """A small group within a class that tells the model unusually much.

    Attributes:
        name: of the class; None where there are no classes.
        rows: its training rows, those that tell most first.
        share: of its class.
        information: median over its members, in nats.
        others: the same over the rest of the class.
        fence: what the information of few others reaches.
        gap: distance to the nearest other of the class, in steps that are usual between neighbours there.
        reason: one sentence for a person.
    """

    name: str | None
    rows: tuple[int, ...]
    share: float
    information: float
    others: float
    fence: float
    gap: float
    reason: str


def subclasses(fitted: Fitted, query: Data, *, at: At = None, by: By = "function") -> tuple[Subclass, ...]:
    """Return under-sampled kinds within classes, the most telling first.

    Args:
        at: training time; None is the end.
        by: "function", information about the answers at the queries; or "weights".

    Raises:
        OptionError: `by` or `at` is none.

    Cost:
        one pass of `leave_one_out` (by weights 2n³k); then 4c³/3 and c² numbers for each class of c.

    Source:
        Smooth unique information, section 5 and figure 9, where the kinds are known.
    """
    check_choice("by", by, MEASURES)
    examples = queries_of(fitted, query)
    return subclasses_by(fitted, moved(fitted, examples, one_time(fitted, at), by))


def subclasses_by(fitted: Fitted, information: Float64[Tensor, " n"]) -> tuple[Subclass, ...]:
    """Return under-sampled kinds within classes by the information in each training example.

    Raises:
        ShapeError: not a number for each training example.
    """
    if len(information) != len(fitted):
        raise ShapeError(
            f"`information` must have {len(fitted)} entries, one for each training example; got "
            f"{len(information)}."
        )
    fitted.check_kernel_fixed()
    train = fitted.train
    members: list[tuple[str | None, Tensor]] = [(None, torch.arange(len(train)))]
    if train.labels is not None and train.classes is not None:
        members = [
            (name, (train.labels == label).nonzero().flatten()) for label, name in enumerate(train.classes)
        ]
    found: list[Subclass] = []
    for name, rows in tracked(members, what="kinds within classes"):
        if SMALL * len(rows) >= MEMBERS:
            found += _within(fitted, name, rows, information.cpu())
    return tuple(sorted(found, key=lambda one: _far(one)))


def _within(
    fitted: Fitted, name: str | None, rows: Int64[Tensor, " c"], information: Float64[Tensor, " n"]
) -> list[Subclass]:
    """Return the kinds within one class; no two share an example."""
    points = _components(fitted, rows)
    candidates = _apart(points, _clusters(points))
    found: list[Subclass] = []
    taken = np.zeros(len(rows), dtype=bool)
    # Of clusters within each other, the one that is farthest from the rest.
    for gap, inside in sorted(candidates, key=lambda one: -one[0]):
        mask = torch.from_numpy(inside)
        own, rest = information[rows[mask]], information[rows[~mask]]
        limit = fence_of(rest)
        if gap < GAP or (taken & inside).any() or float(own.quantile(0.5)) <= limit:
            continue
        taken |= inside
        order = own.argsort(descending=True, stable=True)
        members = rows[mask][order].tolist()
        found.append(_subclass(name, members, len(rows), own, rest, limit, gap))
    return found


def _components(fitted: Fitted, rows: Int64[Tensor, " c"]) -> Float64[np.ndarray, "c p"]:
    """Return the leading kernel principal components of some examples, by kernel correlation."""
    here = rows.to(fitted.device)
    alike = torch.empty(len(rows), len(rows), dtype=torch.float64)
    for some in blocks(len(rows), ROWS):
        alike[some] = torch.stack(
            [fitted.rows.summed_over_outputs(slice(row, row + 1))[0, here] for row in rows[some].tolist()]
        ).cpu()
    size = alike.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    alike = alike / (size[:, None] * size)
    centred = alike - alike.mean(0) - alike.mean(1, keepdim=True) + alike.mean()
    last = len(rows) - 1
    values, vectors = scipy.linalg.eigh(
        centred.numpy(), subset_by_index=[max(0, last - COMPONENTS + 1), last]
    )
    points: np.ndarray = vectors * np.sqrt(np.maximum(values, 0))
    return points


def _clusters(points: Float64[np.ndarray, "c p"]) -> list[Bool[np.ndarray, " c"]]:
    """Return the clusters of a size to be a kind, of all ways to cut the tree into a few."""
    tree = linkage(points, method="ward")
    found: dict[bytes, np.ndarray] = {}
    for cuts in range(2, CUTS + 1):
        cluster = fcluster(tree, cuts, criterion="maxclust")
        for number in np.unique(cluster):
            inside = cluster == number
            if MEMBERS <= inside.sum() <= SMALL * len(points):
                found[inside.tobytes()] = inside
    return list(found.values())


def _apart(
    points: Float64[np.ndarray, "c p"], clusters: list[Bool[np.ndarray, " c"]]
) -> list[tuple[float, Bool[np.ndarray, " c"]]]:
    """Return each cluster with its distance to the nearest other, in usual steps of the others."""
    steps = cdist(points, points)
    np.fill_diagonal(steps, np.inf)
    found = []
    for inside in clusters:
        across = steps[np.ix_(inside, ~inside)].min()
        usual = np.quantile(steps[np.ix_(~inside, ~inside)].min(1), USUAL)
        found.append((float(across / usual) if usual > 0 else 0.0, inside))
    return found


def _subclass(
    name: str | None,
    rows: list[int],
    count: int,
    own: Float64[Tensor, " i"],
    rest: Float64[Tensor, " o"],
    limit: float,
    gap: float,
) -> Subclass:
    told, others = float(own.quantile(0.5)), float(rest.quantile(0.5))
    of = "the training examples" if name is None else f"class {name}"
    reason = (
        f"These {len(rows)} are {len(rows) / count:.1%} of {of}, and the nearest other is {gap:.2f} times "
        f"as far as neighbours usually are; the typical one of them tells the model {told:.3g} nats, the "
        f"typical other example {others:.3g}, few more than {limit:.3g}: there are too few like them."
    )
    return Subclass(name, tuple(rows), len(rows) / count, told, others, limit, gap, reason)


def _far(one: Subclass) -> float:
    """Return a key that puts first the kind that tells most beside the others."""
    return -one.information / one.others if one.others > 0 else -math.inf


def subclasses_work(n: int) -> WorkCount:
    """Return the work of `subclasses_by`, where there are two classes, which take longest.

    Components of a class of c take 4c³/3; its distances and their clusters are gone through many times.
    """
    return product(n / 2, n / 2, 2 * n / 3) + passes(n * n / 2, 60)
