"""No file makes the process take more than 64 times its size, or more than the memory there is.

One process reads each file under a limit of its address space. A text file must be read within 64 times its
size and an allowance; a packed one, which may say that it holds any number of bytes, must be read or refused.
"""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

MULTIPLE = 64
"""Bytes of memory for a byte of a .csv, as `leftout.data.csv_file` says."""

ALLOWANCE = 24 * 2**20
"""For what a process reserves beside: arenas, caches, code loaded late."""

ROOM = 256 * 2**20
"""Memory for packed files."""

READ = """
    import json, os, resource, sys
    import leftout as lo

    def reserved():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    lo.load("warm.csv"), lo.load("warm.parquet")
    outcomes = {}
    for name, room in json.loads(sys.argv[1]).items():
        resource.setrlimit(resource.RLIMIT_AS, (reserved() + room, resource.RLIM_INFINITY))
        try:
            outcomes[name] = f"{sum(map(len, lo.load(name)))} examples"
        except BaseException as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps(outcomes))
"""


def outcomes(folder: Path, rooms: dict[str, int]) -> dict[str, str]:
    """Return what became of each file when it was read with so much memory."""
    (folder / "warm.csv").write_text("a,b\n" + "1.5,x\n2.5,y\n" * 20)
    parquet.write_table(
        pyarrow.table({"a": np.arange(1.0, 41), "b": ["x", "y"] * 20}), folder / "warm.parquet"
    )
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), json.dumps(rooms)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


def write_texts(folder: Path) -> None:
    """Write tables whose cells, rows, names or texts are as small or as long as they can be."""
    wide = ",".join(f"c{i}" for i in range(40))
    files = {
        "digits.csv": f"{wide},t\n" + "".join("3," * 39 + f"{row % 7},{row % 2}\n" for row in range(5_000)),
        "pairs.csv": f"{wide},t\n" + "".join("37," * 39 + f"{row % 7},{row % 2}\n" for row in range(5_000)),
        "narrow.csv": "f,t\n" + "".join(f"{row % 9 + 1},{row % 2}\n" for row in range(90_000)),
        "blank.csv": "f,t\n" + "1,1\n2,2\n" * 20 + "\n" * 500_000,
        "names.csv": ",".join(f"c{i}" for i in range(20_000)) + ",t\n" + ("1," * 20_000 + "a\n") * 4,
        "scripts.csv": "f,t\n" + "".join(f"{row % 9 + 1},{'éα漢😀'[row % 4]}\n" for row in range(80_000)),
        "long.csv": "f,t\n" + "1,a\n2,b\n" * 4_000 + ("1," + "z" * 130_000 + "\n") * 2,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of an address space and /proc are Linux's")
def test_a_text_file_takes_at_most_64_times_its_size(tmp_path) -> None:
    write_texts(tmp_path)
    rooms = {path.name: MULTIPLE * path.stat().st_size + ALLOWANCE for path in sorted(tmp_path.glob("*.csv"))}
    ended = outcomes(tmp_path, rooms)
    refused = {name: end for name, end in ended.items() if "examples" not in end}
    # Four rows of one class: what is refused is refused after it was read.
    assert list(refused) == ["names.csv"], refused
    assert refused["names.csv"].startswith("DataError: `names.csv` must hold at least two classes")


def write_bombs(folder: Path) -> None:
    """Write packed files that say they hold, or do hold, far more than their size."""
    long = ["ab"[row % 2] for row in range(1_998)] + ["z" * 10**6] * 2
    parquet.write_table(
        pyarrow.table({"f": np.arange(1.0, 2_001), "t": long}), folder / "text.parquet", compression="zstd"
    )
    column = pyarrow.array(np.ones(2 * 10**6))
    parquet.write_table(
        pyarrow.table({"f": column, "t": column}), folder / "rows.parquet", compression="zstd"
    )
    np.savez_compressed(folder / "zeros.npz", x=np.zeros((400, 10**4)), y=np.arange(400) % 2)
    np.savez_compressed(folder / "bytes.npz", x=np.ones((10**5, 40), np.uint8), y=np.arange(10**5) % 2)
    np.savez_compressed(folder / "texts.npz", x=np.ones((40, 2)), y=np.array(["a", "b" * 10**5] * 20))
    with zipfile.ZipFile(folder / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/a/1"):
            archive.writestr(f"{name}.bmp", b"BM" + bytes(2**27 - 2 if name == "train/a/1" else 9))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of an address space and /proc are Linux's")
def test_a_packed_file_is_read_within_memory_or_refused_before_it_is_unpacked(tmp_path) -> None:
    write_bombs(tmp_path)
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert all((tmp_path / name).stat().st_size < 2 * 10**6 for name in names)
    ended = outcomes(tmp_path, dict.fromkeys(names, ROOM))
    assert ended.pop("text.parquet") == "2000 examples"
    assert ended.pop("texts.npz") == "40 examples"
    refused = {name: end for name, end in ended.items() if end.startswith("MemoryBudgetError: ")}
    assert refused == ended
    assert len(refused) == 4
