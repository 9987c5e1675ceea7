"""Are the clusters on the sphere, as tight as said, and as many?"""

import re

import pytest
import torch
from torch import Generator

from leftout.core.errors import OptionError
from leftout.data.mixtures import mixture


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_every_size_makes_a_cluster_of_each_class() -> None:
    examples, clusters = mixture([3, 6, 12], 7, generator=seeded())
    assert examples.inputs.shape == (42, 7)
    assert clusters.bincount().tolist() == [3, 6, 12, 3, 6, 12]
    assert examples.classes == ("negative", "positive")
    assert examples.targets.flatten().tolist() == [1.0] * 21 + [-1.0] * 21
    assert torch.equal(examples.labels, (clusters < 3).long())
    assert examples.preparation["radius"] == 1e-3


@pytest.mark.parametrize("radius", [1e-9, 1e-3, 0.3, 0.99])
@pytest.mark.parametrize("inputs", [2, 3, 100])
def test_inputs_are_unit_and_lie_within_the_radius_of_the_mean_of_their_law(inputs, radius) -> None:
    # The mean of so many is that of the law to radius / √4000 in each direction across.
    examples, clusters = mixture([4_000], inputs, radius, generator=seeded())
    eps = torch.finfo(torch.float64).eps
    assert float((examples.inputs.norm(dim=1) - 1).abs().max()) <= 8 * eps
    for cluster in (0, 1):
        rows = examples.inputs[clusters == cluster]
        centre = rows.mean(0) / rows.mean(0).norm()
        # Only the direction of the sample's mean is off the law's, by radius / √4000.
        slack = radius * 5 / 4_000**0.5 + 8 * eps
        chords = (rows - centre).norm(dim=1)
        assert float(chords.max()) <= radius + slack
        assert float(chords.max()) >= 0.95 * radius
        assert float((rows - rows.mean(0)).norm(dim=1).max()) <= radius + slack


def test_points_are_uniform_in_the_tangent_ball() -> None:
    # In d − 1 dimensions half of a ball lies beyond the share 2^(−1/(d − 1)) of its radius.
    examples, clusters = mixture([20_000], 4, 0.1, generator=seeded(3))
    rows = examples.inputs[clusters == 0]
    centre = rows.mean(0) / rows.mean(0).norm()
    share = ((rows - centre).norm(dim=1) / 0.1 > 0.5 ** (1 / 3)).double().mean()
    assert abs(float(share) - 0.5) < 5 * 0.5 / 20_000**0.5


def test_centres_are_uniform_on_the_sphere() -> None:
    examples, _ = mixture([1] * 10_000, 5, 1e-6, generator=seeded())
    x = examples.inputs  # (20000, 5): second moments 1/d, first 0
    assert float(x.mean(0).abs().max()) < 5 / (5 * 20_000) ** 0.5
    second = x.T @ x / len(x) - torch.eye(5, dtype=torch.float64) / 5
    assert float(second.abs().max()) < 5 * 0.17 / 20_000**0.5  # σ of x_i² is √(2(d − 1)/(d + 2))/d = 0.17 …


def test_the_generator_decides() -> None:
    one, two, other = (mixture([4, 4], 3, generator=seeded(s))[0] for s in (1, 1, 2))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != other.fingerprint


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("sizes", [[], [3, 0], [-1], [2.5]], ids=str)
def test_sizes_that_are_none_are_refused(sizes) -> None:
    words = f"`sizes` must hold whole numbers ≥ 1, a cluster each; got {sizes!r}."
    with pytest.raises(OptionError, match=re.escape(words)):
        mixture(sizes, generator=seeded())


def test_a_space_without_room_and_a_radius_out_of_range_are_refused() -> None:
    words = "`inputs` must be at least 2, or a sphere is two points; got 1."
    with pytest.raises(OptionError, match=re.escape(words)):
        mixture([3], 1, generator=seeded())
    for radius in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(OptionError, match=re.escape(f"`radius` must lie in (0, 1); got {radius}")):
            mixture([3], 5, radius, generator=seeded())
