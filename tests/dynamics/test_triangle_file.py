"""Tiles on a disk: a process that is killed goes on to the same bytes, and what is damaged is noticed."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from leftout.core.errors import StoreError
from leftout.dynamics.triangle_file import TriangleFile
from leftout.solvers.tiled.invert import fill, invert
from leftout.solvers.tiled.triangle import Stage, TriangleInMemory

N, SIDE = 90, 32

WORK = """
import sys, time, torch
from pathlib import Path
from leftout.dynamics.triangle_file import TriangleFile
from leftout.solvers.tiled.invert import fill, invert
torch.set_num_threads(1)
half = torch.randn(90, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
whole = half @ half.T
triangle = TriangleFile(Path(sys.argv[1]), 90, dtype=torch.float32, identity={"of": "test"}, side=32)
replace = TriangleFile.replace
def slow(self, *step):
    replace(self, *step)
    time.sleep(0.02)
    print(step[:3], flush=True)
TriangleFile.replace = slow
fill(triangle, lambda i, j: whole[triangle.spans[i], triangle.spans[j]].clone(), 0.1)
invert(triangle)
"""


def whole():
    half = torch.randn(N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return half @ half.T


def on_disk(folder, *, dtype=torch.float32, of="test"):
    return TriangleFile(folder, N, dtype=dtype, identity={"of": of}, side=SIDE)


def compute(triangle):
    matrix = whole()
    fill(triangle, lambda i, j: matrix[triangle.spans[i], triangle.spans[j]].clone(), 0.1)
    invert(triangle)
    return triangle


def test_it_holds_what_tiles_in_memory_hold(tmp_path) -> None:
    made = compute(on_disk(tmp_path))
    in_memory = compute(TriangleInMemory(N, dtype=torch.float32, device=torch.device("cpu"), side=SIDE))
    again = on_disk(tmp_path)
    for i, j in made.places():
        assert again.stage(i, j) == Stage.INVERSE
        assert torch.equal(again.tile(i, j), in_memory.tile(i, j))
    vectors = torch.randn(N, 2, dtype=torch.float64)
    made.keep_array("leading", vectors)
    assert torch.equal(again.array("leading"), vectors)
    assert again.array("another") is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_process_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path, seed) -> None:
    wait = float(torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    command = [sys.executable, "-c", WORK, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5 * wait)
        process.send_signal(signal.SIGKILL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left = on_disk(tmp_path / "killed")
        assert max(left.stage(*place) for place in left.places()) > Stage.NOTHING
        killed, other = compute(on_disk(tmp_path / "killed")), compute(on_disk(tmp_path / "whole"))
    finally:
        torch.set_num_threads(threads)
    for i, j in killed.places():
        assert torch.equal(killed.tile(i, j), other.tile(i, j))


def test_tiles_of_something_else_are_refused(tmp_path) -> None:
    compute(on_disk(tmp_path))
    for other in ({"of": "another"}, {"dtype": torch.float64}):
        with pytest.raises(StoreError, match="belongs to another model"):
            on_disk(tmp_path, **other)


@pytest.mark.parametrize("damage", ["two in one place", "cut", "no list", "no stage"])
def test_damage_is_noticed(tmp_path, damage) -> None:
    compute(on_disk(tmp_path))
    index = tmp_path / "tiles.json"
    content = json.loads(index.read_text())
    if damage == "two in one place":
        content["tiles"][0][3] = content["tiles"][1][3]
    elif damage == "no list":
        content["tiles"] = 3
    elif damage == "no stage":
        content["tiles"][0][2] = 9
    else:
        with (tmp_path / "tiles.bin").open("r+b") as file:
            file.truncate(100)
    index.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="is damaged"):
        on_disk(tmp_path)
