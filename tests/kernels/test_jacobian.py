"""Are Jacobians the same whether inputs are taken together or one by one?"""

import warnings

import pytest
import torch
from torch import nn

from laws import assert_same
from leftout.core.errors import LoopWarning
from leftout.core.modules import parameters_of
from leftout.kernels.network.jacobian import by_loop, by_vmap, fitting_jacobian
from oracles.empirical import jacobian
from problems.tangent_networks import NETWORKS, ByRow, drawn, settled

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because")


def flat(found):
    """Return Jacobians as (n, r, p)."""
    return torch.cat([one.flatten(2) for one in found.values()], dim=2)


@pytest.mark.parametrize("by", [by_vmap, by_loop])
@pytest.mark.parametrize(("module", "inputs"), NETWORKS.values(), ids=NETWORKS)
def test_rows_are_combinations_of_derivatives(module, inputs, by) -> None:
    k = module(inputs[:1]).shape[1]
    combinations = drawn(2, k)
    rows = torch.from_numpy(jacobian(module, inputs)).reshape(len(inputs), k, -1)
    want = torch.einsum("rk,nkp->nrp", combinations, rows)
    found = by(module, parameters_of(module), combinations, inputs)
    assert_same(flat(found), want, 1e-13)
    assert not any(one.requires_grad for one in found.values())


@pytest.mark.parametrize("name", ["mlp", "residual, batch norm", "tokens"])
def test_modules_that_vmap_takes_are_taken_together_without_a_word(name) -> None:
    module, inputs = NETWORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fitting_jacobian(module, parameters_of(module), inputs[:2], outputs=2 + (name == "mlp"))
    assert found is by_vmap


def test_a_module_that_looks_at_its_numbers_is_taken_one_by_one_and_why_is_said() -> None:
    module = settled(ByRow())
    with pytest.warns(LoopWarning, match=r"ByRow is .*: torch\.func\.vmap refuses it \(RuntimeError: "):
        found = fitting_jacobian(module, parameters_of(module), drawn(2, 5), outputs=2)
    assert found is by_loop


def test_a_module_that_has_other_derivatives_under_vmap_is_taken_one_by_one() -> None:
    class Different(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Linear(5, 2)

        def forward(self, x):
            together = torch._C._functorch.maybe_current_level() is not None
            return self.inside(x) * (2 if together else 1)

    module = settled(Different())
    with pytest.warns(LoopWarning, match="vmap gives other numbers for it"):
        found = fitting_jacobian(module, parameters_of(module), drawn(2, 5), outputs=2)
    assert found is by_loop


@pytest.mark.parametrize("by", [by_vmap, by_loop])
def test_outputs_that_weights_have_no_part_in_have_derivatives_of_zero(by) -> None:
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return x[:, :2]

    module = Constant()
    found = by(module, parameters_of(module), torch.eye(2, dtype=torch.float64), drawn(4, 5))
    assert torch.equal(found["unused"], torch.zeros(4, 2, 3, dtype=torch.float64))


def test_gates_at_their_kinks_in_single_precision_are_no_reason_for_the_loop() -> None:
    """Pre-activations that are rounding and nothing else: how sums are rounded opens gates or not."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3000, 64), nn.ReLU(), nn.Linear(64, 2))
    few = torch.randn(3, 3000)
    with torch.no_grad():
        module[0].bias.copy_(-(module[0].weight.double() @ few[1].double()))
    weights, tried = parameters_of(module), torch.linspace(1, 2, 2)[None]
    single = [way(module, weights, tried, few)["0.bias"] for way in (by_vmap, by_loop)]
    # If the two ways happened to round alike here, this would test nothing.
    assert (single[0] - single[1]).abs().max() > 1e-2 * single[1].abs().max()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoopWarning)
        # In double precision what single precision lost decides, and both ways see it.
        assert fitting_jacobian(module, weights, few, outputs=2) is by_vmap


class Single(nn.Module):
    """Insists on single precision."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 2)

    def forward(self, x):
        return torch.nn.functional.linear(x.float(), self.inside.weight, self.inside.bias)


def test_a_module_that_insists_on_its_precision_is_compared_in_it() -> None:
    module = Single()
    found = fitting_jacobian(module, parameters_of(module), torch.randn(2, 3), outputs=2)
    assert found is by_vmap
