"""A kernel matrix in a folder: that of `gram`, however often it was stopped, and of nothing else."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.core.errors import DataError, OptionError, ShapeError, StoreError
from leftout.core.writer_lock import writer_lock
from leftout.kernels import matrix_folder, trial
from leftout.kernels.assemble import cross, gram
from leftout.kernels.tile_file import TileFile

KERNEL = lo.kernels.ReLU(2, bias_variance=0.1)


def rows(n=40, d=5, seed=0):
    """Return inputs of which the 12th and the 33rd repeat earlier ones."""
    inputs = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))
    inputs[12] = inputs[3]
    if n > 33:
        inputs[33] = inputs[12]
    return inputs


def stop_after(monkeypatch, tiles):
    """Interrupt the computation when so many tiles have been computed by it."""
    evaluate, computed = matrix_folder._Matrix.values, []

    def values(self, *sides):
        computed.append(sides)
        if len(computed) > tiles:
            raise KeyboardInterrupt
        return evaluate(self, *sides)

    monkeypatch.setattr(matrix_folder._Matrix, "values", values)
    return computed


def bytes_of(folder):
    return hashlib.sha256((folder / "matrix.npy").read_bytes()).hexdigest()


@pytest.mark.parametrize("block", [None, 7, 16, 40])
def test_it_is_the_matrix_of_gram(tmp_path, block) -> None:
    inputs = rows()
    matrix = lo.kernels.compute(KERNEL, inputs, out=tmp_path / "k", block=block)
    within = gram(KERNEL, inputs, block=block)
    assert torch.equal(matrix, matrix.T)
    if block in (None, 40):
        assert torch.equal(matrix, within)
    np.testing.assert_allclose(matrix, within, rtol=0, atol=1e-14 * float(within.max()))
    assert torch.equal(matrix[12], matrix[3])
    assert torch.equal(matrix[33], matrix[3])
    assert torch.equal(lo.kernels.open_matrix(tmp_path / "k"), matrix)


@pytest.mark.parametrize("block", [None, 7])
def test_between_queries_and_inputs_it_is_that_of_cross(tmp_path, block) -> None:
    inputs, queries = rows(), rows(15, seed=1)
    queries[14] = inputs[3]
    matrix = lo.kernels.compute(KERNEL, inputs, queries, out=tmp_path / "k", block=block)
    np.testing.assert_allclose(matrix, cross(KERNEL, queries, inputs), rtol=0, atol=1e-13)
    assert torch.equal(matrix[12], matrix[3])
    assert torch.equal(matrix[:, 33], matrix[:, 3])
    if block is None:
        assert torch.equal(matrix, cross(KERNEL, queries, inputs))


def test_a_kernel_that_tells_outputs_apart_has_as_many_rows_an_input(tmp_path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    kernel = lo.kernels.Empirical(net)
    inputs = rows(15)[:9]
    matrix = lo.kernels.compute(kernel, inputs, out=tmp_path / "k", block=4)
    assert kernel.outputs == 3
    np.testing.assert_allclose(matrix, gram(kernel, inputs), rtol=0, atol=1e-12)


def test_in_float32_it_takes_half(tmp_path) -> None:
    inputs = rows()
    matrix = lo.kernels.compute(KERNEL, inputs, out=tmp_path / "k", dtype=torch.float32, block=16)
    assert matrix.dtype == torch.float32
    assert (tmp_path / "k" / "matrix.npy").stat().st_size == 128 + 4 * 40**2
    np.testing.assert_allclose(matrix, gram(KERNEL, inputs), rtol=0, atol=2e-5)


@pytest.mark.parametrize("queries", [None, rows(15, seed=1)], ids=["triangle", "queries"])
@pytest.mark.parametrize("stops", [[0], [1], [4], [2, 3, 1]])
def test_a_run_that_was_stopped_goes_on_and_has_the_same_bytes(tmp_path, stops, queries) -> None:
    inputs = rows()
    lo.kernels.compute(KERNEL, inputs, queries, out=tmp_path / "at once", block=8)
    folder = tmp_path / "stopped"
    before = 0
    for tiles in stops:
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, tiles + (1 if before else 0))  # beside them, a look at one that is finished
            with pytest.raises(KeyboardInterrupt):
                lo.kernels.compute(KERNEL, inputs, queries, out=folder, block=8)
        before += tiles
        assert len((folder / "tiles.txt").read_text().splitlines()) == before
        with pytest.raises(StoreError, match="is not whole"):
            lo.kernels.open_matrix(folder)
    with pytest.MonkeyPatch.context() as patch:
        computed = stop_after(patch, 1000)
        lo.kernels.compute(KERNEL, inputs, queries, out=folder)
        tiles = 15 if queries is None else 10
        assert len(computed) == tiles - before + (1 if before else 0)
    assert bytes_of(folder) == bytes_of(tmp_path / "at once")
    assert (folder / "tiles.txt").read_bytes() == (tmp_path / "at once" / "tiles.txt").read_bytes()


CHILD = """
import os, signal, sys, numpy as np, torch, leftout as lo
from leftout.kernels.tile_file import TileFile
write, count = TileFile._write, 0
def writes_a_few(*args, **options):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args, **options)
TileFile._write = writes_a_few
inputs = torch.from_numpy(np.load(sys.argv[1]))
lo.kernels.compute(lo.kernels.ReLU(2, bias_variance=0.1), inputs, out=sys.argv[2], block=8)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_process_that_was_killed_leaves_what_the_next_one_goes_on_with(tmp_path) -> None:
    np.save(tmp_path / "inputs.npy", rows().numpy())
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "inputs.npy", tmp_path / "killed"], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    with (tmp_path / "killed" / "tiles.txt").open("a") as file:
        file.write("8 16 5f3c")  # a line that was cut off
    lo.kernels.compute(KERNEL, rows(), out=tmp_path / "killed")
    lo.kernels.compute(KERNEL, rows(), out=tmp_path / "at once", block=8)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "at once")


@pytest.mark.parametrize("place", [(9, 20), (20, 9), (3, 3)], ids=["tile", "mirror", "diagonal"])
def test_a_damaged_tile_is_refused_when_opened_and_computed_again(tmp_path, place) -> None:
    folder = tmp_path / "k"
    lo.kernels.compute(KERNEL, rows(), out=folder, block=8)
    sound = bytes_of(folder)
    damaged = np.load(folder / "matrix.npy", mmap_mode="r+")
    damaged[place] += 1e-9
    damaged.flush()
    first, second = (8 * (number // 8) for number in sorted(place))
    with pytest.raises(
        StoreError, match=f"in rows {first} to {first + 7} and columns {second} to {second + 7}. Call lo.ker"
    ):
        lo.kernels.open_matrix(folder)
    with pytest.MonkeyPatch.context() as patch:
        computed = stop_after(patch, 1000)
        lo.kernels.compute(KERNEL, rows(), out=folder)
        assert len(computed) == 2, "the tile, and a look at another"
    assert bytes_of(folder) == sound


def test_a_whole_matrix_is_not_computed_again(tmp_path) -> None:
    folder = tmp_path / "k"
    lo.kernels.compute(KERNEL, rows(), out=folder, block=8)
    before = (folder / "matrix.npy").stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        computed = stop_after(patch, 1000)
        lo.kernels.compute(KERNEL, rows(), out=folder)
        assert len(computed) == 1, "a look at one that is finished"
    assert (folder / "matrix.npy").stat().st_mtime_ns == before


def test_damage_that_cannot_be_mended_is_named(tmp_path) -> None:
    folder = tmp_path / "k"
    lo.kernels.compute(KERNEL, rows(), out=folder, block=8)
    np.save(folder / "matrix.npy", np.zeros((3, 3)))
    with pytest.raises(
        StoreError, match=r"holds \(3, 3\) numbers of float64, and its record says \(40, 40\)"
    ):
        lo.kernels.compute(KERNEL, rows(), out=folder)
    (folder / "matrix.npy").write_bytes(b"no matrix")
    with pytest.raises(StoreError, match="damaged"):
        lo.kernels.open_matrix(folder)
    (folder / "matrix.json").write_text('{"rows": 0}')
    with pytest.raises(StoreError, match="damaged"):
        lo.kernels.compute(KERNEL, rows(), out=folder)


ANOTHER = {
    "a depth": (
        (lo.kernels.ReLU(3, bias_variance=0.1), rows()),
        {},
        "depth of the kernel is 2 there and 3 here",
    ),
    "a kernel": ((lo.kernels.Erf(2), rows()), {}, "of the kernel is"),
    "inputs": ((KERNEL, rows(seed=1)), {}, "`inputs` are others"),
    "queries": ((KERNEL, rows(), rows()), {}, "`queries` are others"),
    "a dtype": ((KERNEL, rows()), {"dtype": torch.float32}, "dtype is float64 there and float32 here"),
    "tiles": ((KERNEL, rows()), {"block": 9}, "block is 8 there and 9 here"),
    "size": ((KERNEL, rows()[:20]), {}, "rows is 40 there and 20 here"),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_a_folder_of_another_matrix_is_refused_by_what_is_other(tmp_path, name) -> None:
    lo.kernels.compute(KERNEL, rows(), out=tmp_path / "k", block=8)
    arguments, options, words = ANOTHER[name]
    with pytest.raises(StoreError, match=words):
        lo.kernels.compute(*arguments, out=tmp_path / "k", **options)


def test_a_function_that_changed_under_its_name_is_noticed(tmp_path) -> None:
    lo.kernels.compute(lo.kernels.From(lambda x, z: x @ z.T, name="mine"), rows(), out=tmp_path / "k")
    with pytest.raises(StoreError, match="with the same record and other values: entry"):
        lo.kernels.compute(lo.kernels.From(lambda x, z: 2 * x @ z.T, name="mine"), rows(), out=tmp_path / "k")


def test_folders_that_hold_something_else_are_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(StoreError, match="holds other files"):
        lo.kernels.compute(KERNEL, rows(), out=tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        lo.kernels.compute(KERNEL, rows(), out=tmp_path / "thesis.txt")
    with pytest.raises(StoreError, match="holds no kernel matrix"):
        lo.kernels.open_matrix(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_writers_are_refused(tmp_path) -> None:
    with writer_lock(tmp_path / "k"), pytest.raises(StoreError, match="is being written by process"):
        lo.kernels.compute(KERNEL, rows(), out=tmp_path / "k")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(matrix_folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(StoreError, match=r"takes 12.8 kB, and the disk of .* has 1 kB left"):
        lo.kernels.compute(KERNEL, rows(), out=tmp_path / "k")
    assert not list((tmp_path / "k").iterdir())


def test_a_disk_that_fills_up_is_said_and_the_same_call_goes_on(tmp_path) -> None:
    write, written = TileFile._write, []

    def writes_a_few(*arguments):
        written.append(arguments)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TileFile, "_write", writes_a_few)
        with pytest.raises(
            StoreError, match=r"cannot be written: No space left on device\. Once that is mended"
        ):
            lo.kernels.compute(KERNEL, rows(), out=tmp_path / "full", block=8)
    lo.kernels.compute(KERNEL, rows(), out=tmp_path / "full")
    lo.kernels.compute(KERNEL, rows(), out=tmp_path / "at once", block=8)
    assert bytes_of(tmp_path / "full") == bytes_of(tmp_path / "at once")


def test_what_it_takes_is_said_beforehand() -> None:
    plan = lo.kernels.plan_matrix(KERNEL, rows(1000), block=100)
    assert (plan.rows, plan.columns, plan.bytes, plan.tiles) == (1000, 1000, 8_000_000, 55)
    assert 0 < plan.seconds < 60
    assert "1\u202f000 × 1\u202f000 numbers, 8 MB on disk, in 55\u00a0tiles of 100\u00a0inputs a side" in str(
        plan
    )
    half = lo.kernels.plan_matrix(KERNEL, rows(1000), rows(15), dtype=torch.float32)
    assert (half.bytes, half.tiles, half.block) == (60_000, 1, 1000)


def test_a_slow_kernel_gets_smaller_tiles(monkeypatch) -> None:
    def slow(x, z):
        time.sleep(1e-3 * len(x) * len(z))
        return x @ z.T

    monkeypatch.setattr(trial, "LONG", 0.1)
    plan = lo.kernels.plan_matrix(lo.kernels.From(slow), rows(3000))
    assert plan.block in (64, 128)  # 20 s are 20,000 pairs, 141²
    assert 1 <= plan.seconds / (1e-3 * 3000**2 / 2) < 4


@pytest.mark.usefixtures("as_users_run_it")
def test_arguments_that_are_none_are_refused(tmp_path) -> None:
    for block in (0, 2.5, "large"):
        with pytest.raises(OptionError, match="`block`"):
            lo.kernels.compute(KERNEL, rows(), out=tmp_path / "k", block=block)
    with pytest.raises(OptionError, match="`dtype`"):
        lo.kernels.compute(KERNEL, rows(), out=tmp_path / "k", dtype=torch.float16)
    with pytest.raises(ShapeError, match="must have rows and columns; got 0 × 0"):
        lo.kernels.compute(KERNEL, rows()[:0], out=tmp_path / "k")
    with pytest.raises(ShapeError, match="`queries` must have the features"):
        lo.kernels.compute(KERNEL, rows(), rows(d=4), out=tmp_path / "k")
    aware = lo.kernels.LabelAware(KERNEL, "kr-v1", 0.1)
    with pytest.raises(OptionError, match=r"`kernel` must be a kernel.*got LabelAware.*fit_labels"):
        lo.kernels.compute(aware, rows(), out=tmp_path / "k")
    with pytest.raises(OptionError, match="`out`"):
        lo.kernels.compute(KERNEL, rows(), out=3)
    assert not (tmp_path / "k").exists()


def test_numbers_that_are_none_are_named_by_their_row(tmp_path) -> None:
    def broken(x, z):
        values = x @ z.T
        values[(x[:, 0] == float(rows()[21, 0]))[:, None] & (z[:, 0] == float(rows()[30, 0]))] = torch.nan
        return values

    with pytest.raises(DataError, match="its row 21 holds nan"):
        lo.kernels.compute(lo.kernels.From(broken), rows(), out=tmp_path / "k", block=8)


def test_a_model_of_the_file_is_the_model_of_the_kernel(tmp_path) -> None:
    inputs, queries = rows(), rows(15, seed=1)
    targets = inputs[:, :2].sin()
    both = torch.cat([inputs, queries])
    stored = lo.kernels.Precomputed(lo.kernels.compute(KERNEL, both, out=tmp_path / "k"))
    numbers = torch.arange(55, dtype=torch.float64)[:, None]
    fitted = lo.fit(KERNEL, (inputs, targets), rule=lo.Ridge(0.1))
    of_file = lo.fit(stored, (numbers[:40], targets), rule=lo.Ridge(0.1))
    np.testing.assert_allclose(of_file.predict(numbers[40:]), fitted.predict(queries), rtol=0, atol=1e-10)
    asked = queries[:, :2].cos()
    scores = lo.leave_one_out(fitted, (queries, asked))
    of_file_scores = lo.leave_one_out(of_file, (numbers[40:], asked))
    np.testing.assert_allclose(of_file_scores.values, scores.values, rtol=0, atol=1e-10)
