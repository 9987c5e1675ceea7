"""What several tests share."""

import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

PLACES = (
    Path(os.environ.get("LEFTOUT_DATA", "") or "nowhere"),
    Path(__file__).parents[2] / "shared" / "data",
)


@pytest.hookimpl(tryfirst=True)  # before slow tests are chosen or not
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest go first, so that no process waits for the last one; samples are drawn."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    for of_law in cases.values():
        if sample := of_law[0].get_closest_marker("sample"):
            later = Random(0).sample(
                of_law, max(0, len(of_law) - sample.args[0])
            )  # every axis of a grid varies
            for item in later:
                item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: "papers" not in item.path.parts)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets; skip where there is none."""
    for place in PLACES:
        if place.is_dir():
            return place
    pytest.skip("no real data: set LEFTOUT_DATA to a folder with mnist/ and cifar10.zip")


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Do not check annotations, which `make test-slow` does: what our own messages say is tested."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def frozen() -> Iterator[Callable[..., None]]:
    held: list[tuple[Tensor, Tensor, int]] = []
    yield lambda *tensors: held.extend((t, t.clone(), t._version) for t in tensors)
    for tensor, before, version in held:
        assert tensor._version == version, "an input was written to"
        assert torch.equal(tensor, before), "an input was written to"


@pytest.fixture
def machine_measured_once(monkeypatch) -> None:
    """Take the speeds of this machine as they were measured first: what is planned with them is tested."""
    from leftout.cli import kernel_choice
    from leftout.planning import machine

    measure = machine.bare_machine

    def measured(examples: Any, *, device: torch.device, most: float = math.inf) -> Any:
        del most
        if device not in SPEEDS:
            SPEEDS[device] = measure(examples, device=device)
        return SPEEDS[device]

    for module in (machine, kernel_choice):
        monkeypatch.setattr(module, "bare_machine", measured)


SPEEDS: dict[torch.device, Any] = {}
"""Of this machine, by device."""


@pytest.fixture
def leftout(tmp_path, monkeypatch, capsys):
    """Return a call of the command line in an empty folder: status, stdout, stderr.

    What it refuses must be said in flags: no message names an option of the command as Python does.
    """
    from leftout.cli.flag_names import flags_by_name
    from leftout.cli.main import Commands, main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["leftout", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        command = Commands().get(str(words[0])) if words else None
        for name in {} if command is None else set(flags_by_name(command)) - set(map(str, words)):
            assert f"`{name}`" not in output.err, "an argument of Python is named"
        return ended.value.code or 0, output.out, output.err

    return call
