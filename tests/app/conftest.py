"""What the tests of the command line share: a call of it, in an empty folder."""

import sys

import pytest

from leftout.app.cli import main


@pytest.fixture
def leftout(tmp_path, monkeypatch, capsys):
    """Return a call of the command line in an empty folder: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["leftout", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call
