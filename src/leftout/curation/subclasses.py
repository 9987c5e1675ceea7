"""Under-sampled subclasses: small, separate groups within a class that carry unusually much information.

A class may be two: thousands of dogs and two hundred cats, all labelled "pet". The cats are predicted from
each other alone, so each of them carries far more information than a dog. To find such groups without labels
for them, the examples of a class are clustered (Ward) by their leading kernel principal components; a cluster
is returned if it is

    small           at most a fifth of its class,
    separate        farther from the rest of the class than neighbours within the rest,
    informative     its median information lies beyond Tukey's fence of the rest of the class.

A subclass has at least five members; single examples are outliers. With inputs of one or two dimensions the
thin end of any cloud can pass as a subclass by chance: inspect the examples there.
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
from leftout.core.progress import with_progress
from leftout.core.work import WorkCount, passes, product
from leftout.curation.model_change import MEASURES, By, model_change
from leftout.curation.prune import one_time
from leftout.curation.rare import ROWS, fence_of
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

MEMBERS = 5
"""Fewest members of a subclass: fewer may lie apart from the rest by chance, and are outliers."""

SMALL = 0.2
"""Largest share of the class, so that the rest can be compared with."""

USUAL = 0.9
"""Quantile of nearest-neighbour distances within the rest that counts as the usual distance."""

GAP = 1.4
"""Smallest distance of a subclass from the rest of its class, in usual distances.

Ten examples of one digit among 120 of another lie 1.5 to 3 away. In normal clouds of three dimensions and
more none reaches 1.3, and of thirty classes of one digit one has a style of writing that reaches 1.46."""

COMPONENTS = 8
"""Kernel principal components that are clustered: with more, distances discriminate less."""

CUTS = 8
"""Most clusters that a class is cut into: a subclass may be one of several."""


@dataclass(frozen=True)
class Subclass:
    """A small group within a class that carries unusually much information.

    Attributes:
        name: of the class; None where there are no classes.
        rows: its training rows, the most informative first.
        share: of its class.
        information: median over its members, in nats.
        others: the same over the rest of the class.
        fence: Tukey's fence of the information in the rest of the class.
        gap: distance to the nearest other example of the class, in usual distances between neighbours there.
        reason: the evidence in one sentence.
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
    """Return under-sampled subclasses, the most informative beside the rest of their class first.

    Args:
        at: training time; None is the end.
        by: "function", information about the answers at the queries; or "weights".

    Raises:
        OptionError: an unknown `by`, or several times.

    Cost:
        one pass of `leave_one_out` (by weights 2n³k); then 4c³/3 and c² numbers for each class of c.

    Source:
        Smooth unique information, section 5 and figure 9, where the subclasses are known.

    Example:
        >>> import leftout as lo, torch
        >>> axes = torch.eye(3, dtype=torch.float64).repeat_interleave(torch.tensor([20, 40, 6]), dim=0)
        >>> noise = torch.randn(66, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> data = axes + noise / 20, [0] * 20 + [1] * 46  # class 1 lies along two axes
        >>> fitted = lo.fit(lo.kernels.ReLU(1), data, rule=lo.Ridge(1.0))
        >>> [(group.name, sorted(group.rows)) for group in lo.subclasses(fitted, data)]
        [('1', [60, 61, 62, 63, 64, 65])]
    """
    check_choice("by", by, MEASURES)
    examples = queries_of(fitted, query)
    return subclasses_by(fitted, model_change(fitted, examples, one_time(fitted, at), by))


def subclasses_by(fitted: Fitted, information: Float64[Tensor, " n"]) -> tuple[Subclass, ...]:
    """Return under-sampled subclasses, given the information in each training example.

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
    members: list[tuple[str | None, Tensor]] = [(None, torch.arange(len(train), device="cpu"))]
    if train.labels is not None and train.classes is not None:
        members = [
            (name, (train.labels == label).nonzero().flatten()) for label, name in enumerate(train.classes)
        ]
    kinds: list[Subclass] = []
    for name, rows in with_progress(members, what="kinds within classes"):
        if SMALL * len(rows) >= MEMBERS and compared_bytes(len(rows)) <= fitted.memory:
            kinds += _subclasses_within(fitted, name, rows, information.cpu())
    return tuple(sorted(kinds, key=_sort_key))


def _subclasses_within(
    fitted: Fitted, name: str | None, rows: Int64[Tensor, " c"], information: Float64[Tensor, " n"]
) -> list[Subclass]:
    """Return the subclasses of one class; no two share an example."""
    points = _components(fitted, rows)
    candidates = _distances(points, _clusters(points))
    kinds: list[Subclass] = []
    used = np.zeros(len(rows), dtype=bool)
    # Of clusters within each other, the one that is farthest from the rest.
    for gap, inside in sorted(candidates, key=lambda candidate: -candidate[0]):
        mask = torch.from_numpy(inside)
        inside_values, rest = information[rows[mask]], information[rows[~mask]]
        limit = fence_of(rest)
        if gap < GAP or (used & inside).any() or float(inside_values.quantile(0.5)) <= limit:
            continue
        used |= inside
        order = inside_values.argsort(descending=True, stable=True)
        members = rows[mask][order].tolist()
        kinds.append(_subclass(name, members, len(rows), inside_values, rest, limit, gap))
    return kinds


def _components(fitted: Fitted, rows: Int64[Tensor, " c"]) -> Float64[np.ndarray, "c p"]:
    """Return the leading kernel principal components of rows, from the matrix of kernel correlations."""
    here = rows.to(fitted.device)
    alike = torch.empty(len(rows), len(rows), dtype=torch.float64, device="cpu")
    for block in blocks(len(rows), ROWS):
        alike[block] = fitted.rows.among(here[block], here).cpu()
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
    """Return the clusters of allowed size, over all cuts of the tree into 2 to `CUTS` clusters."""
    tree = linkage(points, method="ward")
    clusters: dict[bytes, np.ndarray] = {}
    for cuts in range(2, CUTS + 1):
        cluster = fcluster(tree, cuts, criterion="maxclust")
        for number in np.unique(cluster):
            inside = cluster == number
            if MEMBERS <= inside.sum() <= SMALL * len(points):
                clusters[inside.tobytes()] = inside
    return list(clusters.values())


def _distances(
    points: Float64[np.ndarray, "c p"], clusters: list[Bool[np.ndarray, " c"]]
) -> list[tuple[float, Bool[np.ndarray, " c"]]]:
    """Return each cluster with its distance to the nearest other example, in usual distances of the rest."""
    steps = cdist(points, points)
    np.fill_diagonal(steps, np.inf)
    distances = []
    for inside in clusters:
        across = steps[np.ix_(inside, ~inside)].min()
        usual = np.quantile(steps[np.ix_(~inside, ~inside)].min(1), USUAL)
        distances.append((float(across / usual) if usual > 0 else 0.0, inside))
    return distances


def _subclass(
    name: str | None,
    rows: list[int],
    count: int,
    inside: Float64[Tensor, " i"],
    rest: Float64[Tensor, " o"],
    limit: float,
    gap: float,
) -> Subclass:
    typical, typical_rest = float(inside.quantile(0.5)), float(rest.quantile(0.5))
    of = "the training examples" if name is None else f"class {name}"
    reason = (
        f"These {len(rows)} are {len(rows) / count:.1%} of {of}, and the nearest other is {gap:.2f} times "
        f"as far as neighbours usually are; the typical one of them tells the model {typical:.3g} nats, the "
        f"typical other example {typical_rest:.3g}, few more than {limit:.3g}: there are too few like them."
    )
    return Subclass(name, tuple(rows), len(rows) / count, typical, typical_rest, limit, gap, reason)


def compared_bytes(count: int) -> int:
    """Return the bytes of comparing so many examples of a class: correlations, distances and copies."""
    return 4 * 8 * count * count


def _sort_key(subclass: Subclass) -> float:
    """Return a sort key: minus the median information over that of the rest of the class."""
    return -subclass.information / subclass.others if subclass.others > 0 else -math.inf


def subclasses_work(n: int) -> WorkCount:
    """Return the work of `subclasses_by`, where there are two classes, which take longest.

    Components of a class of c take 4c³/3; its distances and their clusters are gone through many times.
    """
    return product(n / 2, n / 2, 2 * n / 3) + passes(n * n / 2, 60)
