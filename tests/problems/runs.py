"""Shared by the tests of runs: small audits, whole folders as values, ids that files may not like."""

import re
from dataclasses import replace
from functools import cache

import leftout as lo

KERNEL = lo.kernels.TwoLayerReLU()

STRANGE = (
    "007",
    "NA",
    "nan",
    "",
    "1e5",
    "True",
    "a,b",
    'say "hi"',
    '"',
    "two\nlines",
    "return\rhere",
    "both\r\nhere",
    "tab\there",
    "  spaces  ",
    "ünïcødé 🙈",
    "<script>alert(1)</script>",
    "[bold red]markup[/]",
    "=1+1",
    "../up",
    "\x1b[31mescape",
    "zero\x00inside",
    "not utf-8 \udcff",
)
"""Ids that a careless table, page or terminal would not give back."""


@cache
def digits(n_train=120, n_query=40):
    return lo.load("digits", n_train=n_train, n_query=n_query)


@cache
def curve_audits():
    """Return audits with a learning curve, of 160 examples: by half of them, and by all."""
    train, query = digits(160, 20)
    flow = lo.GradientFlow(1.0, 0.1)
    return {
        "ridge": lo.audit(KERNEL, train, query, rule=lo.Ridge(0.1)),
        "flow": lo.audit(KERNEL, train, query, rule=flow, at=3.0),
    }


SMALL = ("--n-train", "80", "--n-query", "30")
"""Flags of a run that takes no time."""


def named(examples, names):
    """Return the examples with these as their first ids."""
    return replace(examples, ids=(*names, *examples.ids[len(names) :]))


def small_audit(out=None, *, rule=None, **options):
    train, query = digits()
    return lo.audit(KERNEL, train, query, rule=rule or lo.Ridge(0.1), out=out, **options)


def tree(folder):
    """Return every file of a folder: relative path to bytes and time of change."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(answer, message):
    code, out, err = answer
    assert code == 2, (out, err)
    assert out == ""
    assert err.startswith("leftout: ")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in err
    assert re.search(message, err), err
