"""Are layers taken from what they see exactly where that is right?"""

import re

import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.core.errors import OptionError
from leftout.core.modules import parameters_of
from leftout.kernels import Empirical
from leftout.kernels.assemble import gram
from leftout.kernels.network.layerwise import layer_passes, linear_layers, prefer_factors
from oracles.empirical import jacobian
from problems.tangent_networks import NETWORKS, ByRow, Outside, drawn, settled

TAKEN = {
    "mlp": {"0", "2", "4"},
    "linear": {""},
    "residual, batch norm": {"first", "second", "last"},
    "cnn, dilated": {"0", "2", "5"},
    "cnn, groups": {"0", "2", "5"},
    "cnn, same": {"0", "2", "5"},
    "cnn, valid": {"0", "2", "5"},
    "cnn, reflected": {"0", "5"},
    "tied": {"back", "out"},  # the bias of its own, not the weight it shares
    "twice": {"out"},
    "outside": {"out"},
    "functional": {"out"},
    "tokens": {"into", "key", "out"},
    "in place": {"into", "side", "out"},
    "turned": {"out"},
    "frozen": {"0", "2"},
    "dropout": {"0", "2"},
    "weight norm": {"2"},
}


def restricted(module):
    """Return the module and its trained parameters, as the kernel holds them."""
    return module, parameters_of(module)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_step_aside_where_their_parameters_are_used_otherwise(name) -> None:
    module, inputs = NETWORKS[name]
    found = linear_layers(*restricted(module), inputs[:3])
    assert {one.name for one in found} == TAKEN[name]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "weight norm"])
def test_what_layers_see_makes_the_rows_of_their_jacobian(name) -> None:
    module, inputs = NETWORKS[name]
    layers = linear_layers(*restricted(module), inputs[:3])
    k = module(inputs[:1]).shape[1]
    combinations = drawn(2, k)
    for layer in layers:
        one = layer_passes(module, layers, combinations, inputs)[layer.name]
        parts = [one.weight_rows()] * layer.weight + [one.bias_rows()] * layer.bias
        rows = jacobian(module, inputs, names=layer.names).reshape(len(inputs), k, -1)
        want = torch.einsum("rk,nkp->nrp", combinations, torch.from_numpy(rows))
        assert_same(torch.cat(parts, dim=2), want, 1e-13)


def test_a_layer_that_is_called_row_by_row_steps_aside() -> None:
    module = settled(ByRow())
    assert [one.name for one in linear_layers(*restricted(module), drawn(3, 5))] == ["out"]


def test_a_use_that_shows_in_no_gradient_yet_is_seen_in_the_graph() -> None:
    # The second use has a derivative of zero at these inputs, so gradients alone do not tell.
    class Dead(Outside):
        def forward(self, x):
            unused = torch.relu(x @ self.inside.weight - 100)
            return self.out(torch.sigmoid(self.inside(x)) + unused)

    found = linear_layers(*restricted(settled(Dead())), drawn(3, 5))
    assert [one.name for one in found] == ["out"]


def test_a_layer_that_behaves_otherwise_on_later_inputs_is_refused() -> None:
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(5, 5)
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            once = self.inside(x)
            return self.out(self.inside(once) if len(x) > 3 else once)

    module = settled(Sometimes())
    layers = linear_layers(*restricted(module), drawn(3, 5))
    assert [one.name for one in layers] == ["inside", "out"]
    words = "`module` must call 'inside' once for every input, as on the first inputs; on"
    with pytest.raises(OptionError, match=re.escape(words)):
        layer_passes(module, layers, torch.eye(2, dtype=torch.float64), drawn(5, 5))


def test_subclasses_of_layers_step_aside() -> None:
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    module = settled(nn.Sequential(Doubled(5, 4), nn.Linear(4, 2)))
    assert [one.name for one in linear_layers(*restricted(module), drawn(3, 5))] == ["1"]


def test_a_hook_that_changes_what_a_layer_returns_makes_it_step_aside() -> None:
    module = settled(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)))
    module[0].register_forward_hook(lambda _, given, returned: returned * 3)
    assert [one.name for one in linear_layers(*restricted(module), drawn(3, 5))] == ["1"]
    x = drawn(6, 5)
    rows = jacobian(module, x)
    assert_same(gram(Empirical(module), x), rows @ rows.T, 1e-13)


def test_pairs_are_taken_for_single_positions_and_rows_for_many() -> None:
    assert prefer_factors(positions=1, inside=784, outside=1024, outputs=1)
    assert prefer_factors(positions=1, inside=1024, outside=10, outputs=10)
    assert not prefer_factors(positions=1024, inside=27, outside=16, outputs=1)
    assert not prefer_factors(positions=1, inside=4, outside=1, outputs=1)
