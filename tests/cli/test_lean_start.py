"""Help, and whatever is misspelt, are answered before torch or another large library is loaded."""

import json
import subprocess
import sys

import pytest

from leftout.cli import commands
from leftout.cli.main import Commands

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pandas", "xarray", "zarr", "matplotlib", "joblib", "jinja2")
DRIVER = """
import contextlib, io, json, sys
from leftout.cli.main import main

answers = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["leftout", *words.split()]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    loaded = [name for name in HEAVY if name in sys.modules]
    answers.append([code, out.getvalue(), err.getvalue(), loaded])
print(json.dumps(answers))
"""
ANSWERS = {
    "--help": (0, "audit"),
    "--version": (0, "leftout "),
    "audit --help": (0, "--target"),
    "papers --help": (0, "--paper-size"),
    "audti": (2, "audit"),
    "audit digts": (2, "leftout: `data` must be one of digits, .*'digts'"),
    "audit nowhere.csv": (2, "leftout: `nowhere.csv` must be a file; there is none"),
    "audit mnist:nowhere": (2, "leftout: `nowhere` must be a folder; there is none"),
    "audit net.py:build": (2, "leftout: `net.py` must be a file; there is none"),
    "audit digits --kernel rellu": (2, "rellu"),
    "audit digits --rule riddge": (2, "riddge"),
    "audit digits --bogus": (2, "No such option: --bogus"),
    "audit digits --depth 2": (2, "leftout: --depth belongs to --kernel relu, erf, tanh or conv-relu"),
    "influence digits --spread": (2, "leftout: --spread is of single queries"),
    "curve digits --out curve.txt": (2, "leftout: --out must end in .csv"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Code, output, errors and heavy modules of each command line, all in one process, in order."""
    process = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{DRIVER}", json.dumps(list(ANSWERS))],
        cwd=tmp_path_factory.mktemp("lean"),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(ANSWERS, json.loads(process.stdout), strict=True))


@pytest.mark.parametrize("words", ANSWERS)
def test_it_is_answered_with_nothing_heavy_loaded(answers, words):
    code, out, err, loaded = answers[words]
    expected, text = ANSWERS[words]
    assert (code, loaded) == (expected, [])
    for part in text.split(".*"):
        assert part in out + err


def test_other_packages_are_loaded_only_when_their_command_is_asked_for(monkeypatch):
    class Broken:
        name = "broken"

        def load(self):
            raise ImportError("not installed")

    monkeypatch.setattr("leftout.cli.main.extra_commands", lambda: {"broken": Broken()})
    assert list(Commands()) == [*commands.COMMANDS, "broken"]
    assert Commands()["audit"].name == "audit"
    with pytest.raises(ImportError, match="not installed"):
        Commands()["broken"]


def test_the_library_loads_no_more_than_it_needs():
    code = (
        "import sys, leftout as lo; lo.fit; lo.kernels.ReLU; "
        f"print([name for name in {(*HEAVY[2:], 'rich', 'typer')!r} if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
