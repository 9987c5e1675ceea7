"""The command line: words in, one public call, one record out.

Whatever a user can put right is one sentence on stderr and exit status 2; a run stopped by hand is
status 130 and goes on when run again.
"""

import contextlib
import sys
import warnings
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from time import time as now
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.audit.audit import Audit, audit
from leftout.cli.arguments import Choices
from leftout.cli.check import check
from leftout.cli.command_curve import curve_command
from leftout.cli.command_elasticity import elasticity_command
from leftout.cli.command_influence import influence_command
from leftout.cli.command_learnability import learnability_command
from leftout.cli.command_linearity import linearity_command
from leftout.cli.commands_curation import register
from leftout.cli.kernel_choice import chosen_otherwise, named
from leftout.cli.options import DATA, MACHINE, NETWORK, Device, Memory, with_choices
from leftout.cli.source_labels import origins
from leftout.core.errors import ExpansionWarning, LeftoutError, LoopWarning, NotConvergedWarning, OptionError
from leftout.core.version import __version__
from leftout.core.wording import plain
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap
from leftout.planning.plan import plan
from leftout.report.findings import Findings, ModelAtTime
from leftout.report.training_time_panel import stop_line
from leftout.storage.json_file import read_json

app = typer.Typer(
    name="leftout",
    help="What would your network say if this training example had been left out?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

REFITS = 3
"""Examples really left out unless said otherwise."""

SOURCES = 5
"""Sources named at the end of an audit, those worth most for each example."""

LONG = 2_000
"""Training examples from which an audit takes long enough that a person is told beforehand."""


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"leftout {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("audit", epilog="Example: leftout audit digits --ridge 0.1 --out run")
@with_choices
def audit_command(
    *,
    choices: Choices,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; run, or RUN-again with --again.")
    ] = None,
    again: Annotated[
        Path | None, typer.Option(help="run.json of a run to repeat, with no other flags.")
    ] = None,
    refits: Annotated[
        int, typer.Option(help="Examples really left out, as evidence.", rich_help_panel=MACHINE)
    ] = REFITS,
    verify: Annotated[
        int,
        typer.Option(
            help="Examples without which a --model is really trained again, as evidence.",
            rich_help_panel=NETWORK,
        ),
    ] = 0,
    source: Annotated[
        str | None,
        typer.Option(
            help="Compare sources: column of the table, or FILE.csv with columns id and source.",
            rich_help_panel=DATA,
        ),
    ] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Audit a data set: wrong labels, redundant and rare examples, influence, in one report."""
    folder, where, repeated = Path.cwd(), Path("run"), None
    choices = replace(choices, source=source)
    if again is not None:
        _check_alone(choices, refits, verify)
        choices, refits, verify, folder = _asked_before(again)
        repeated = read_json(again)
        where = again.resolve().parent.with_name(again.resolve().parent.name + "-again")
    where = (out or where).resolve()
    asked = {"choices": choices.record, "refits": refits, "verify": verify, "folder": str(folder)}
    try:
        with contextlib.chdir(folder):
            asked_for = named(choices, memory=memory, device=device)
            kernel, train, query = asked_for.kernel, asked_for.train, asked_for.query
            if otherwise := chosen_otherwise(asked_for, repeated):
                print(f"leftout: {plain(otherwise, 2000)}", file=sys.stderr)
            if sys.stderr.isatty() and len(train) >= LONG:
                foreseen = plan(
                    kernel,
                    train,
                    query,
                    rule=choices.made_rule(),
                    at=choices.times(),
                    refit_examples=refits,
                    device=device,
                    memory=memory,
                )
                Console(stderr=True).print(Text(foreseen.summary))
            found = audit(
                asked_for.selection or kernel,
                train,
                query,
                rule=choices.made_rule(),
                at=choices.times(),
                out=where,
                refit_examples=refits,
                retrain_examples=verify,
                seed=choices.seed,
                device=device,
                memory=memory,
                asked=asked,
                provenance=choices.source and origins(choices.source, choices.data, train),
            )
    except KeyboardInterrupt:
        print("Stopped. What is done is kept: run the same command to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    _show(found)


app.command("influence", epilog="Example: leftout influence digits --of-query digits/0003 --top 5")(
    influence_command
)


@app.command("plan", epilog="Example: leftout plan mnist:DIR --n-train 5000 --at 1 --at 10")
@with_choices
def plan_command(
    *,
    choices: Choices,
    refits: Annotated[
        int, typer.Option(help="Examples really left out, as evidence.", rich_help_panel=MACHINE)
    ] = REFITS,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say what an audit will take - memory, time, method - before anything is allocated."""
    kernel, rule = choices.made_kernel(), choices.made_rule()
    train, query = choices.examples(kernel)
    # An audit starts and loads too, and that takes as long as it took just now.
    started = now() - psutil.Process().create_time()
    found = plan(
        kernel,
        train,
        query,
        rule=rule,
        at=choices.times(),
        refit_examples=refits,
        started=started,
        device=device,
        memory=memory,
    )
    console = Console()
    table = Table("step", "seconds", "memory", "method", title="leftout audit would take")
    for step in found.steps:
        table.add_row(step.name, f"{step.seconds:.1f}", step.memory_text, step.method)
    console.print(table)
    console.print(found.summary)
    found.check()


register(app)

app.command("curve", epilog="Example: leftout curve digits --n-train 500 --n 1000 --n 5000")(curve_command)

app.command("learnability", epilog="Example: leftout learnability digits --n 100 --n 500")(
    learnability_command
)

app.command("elasticity", epilog="Example: leftout elasticity digits --kernel relu --depth 1")(
    elasticity_command
)

app.command("linearity", epilog="Example: leftout linearity digits --model net.py:build --steps 100")(
    linearity_command
)

for extra in entry_points(group="leftout.commands"):
    app.command(extra.name)(extra.load())


@app.command("check", epilog="Example: leftout check")
def check_command() -> None:
    """Say whether this installation is sound: a minute of self-tests, with the numbers."""
    console = Console()
    table = Table("test", "found", "allowed", "", title=f"leftout {__version__}")
    results = check()
    for one in results:
        table.add_row(
            Text(one.name), f"{one.found:.2e}", f"{one.allowed:.2e}", "ok" if one.sound else "FAILED"
        )
    console.print(table)
    if not all(one.sound for one in results):
        raise typer.Exit(1)
    console.print("Everything is sound.")


def main() -> None:
    """Run the command line; errors that a user can put right become one sentence and status 2."""
    warnings.showwarning = _warn
    try:
        app(standalone_mode=True)
    except LeftoutError as error:
        _fail(str(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}")


SHOWN = warnings.showwarning


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Say a warning of ours as a sentence; others with the place where they arose."""
    if not issubclass(category, (ExpansionWarning, LoopWarning, NotConvergedWarning)):
        SHOWN(message, category, *where, **more)
        return
    print(f"leftout: take care: {plain(message, 2000)}", file=sys.stderr)


def _fail(message: str) -> None:
    # On one line, and without what a name in it could do to a terminal.
    print(f"leftout: {plain(message, 2000)}", file=sys.stderr)
    sys.exit(2)


def _check_alone(choices: Choices, refits: int, verify: int) -> None:
    """Raise unless --again stands without flags that it would have to ignore."""
    if choices != Choices() or refits != REFITS or verify:
        raise OptionError(
            "--again repeats a run as it was asked: give no other flags with it but --out, --memory "
            "and --device."
        )


def _asked_before(path: Path) -> tuple[Choices, int, int, Path]:
    """Return the choices of a run, its refits, its trainings and the folder it was asked in."""
    record = read_json(path)
    asked: Any = record.get("asked") if isinstance(record, dict) else None
    try:
        given, folder = asked["choices"], Path(asked["folder"])
        counts = {name: asked.get(name, 0) for name in ("refits", "verify")}
    except (KeyError, TypeError):
        raise OptionError(
            f"--again needs the run.json of a run made by this command; {str(path)!r} says not "
            "what was asked (a run made in Python is made again there)."
        ) from None
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise OptionError(f"`asked` holds {value!r} for `{name}`, which it cannot be.")
    where = folder if folder.is_dir() else Path.cwd()
    return Choices.of(given), counts["refits"], counts["verify"], where


def _show(found: Audit) -> None:
    """Print the short table at the end of an audit."""
    findings = found.findings
    table = Table(show_header=False, title="leftout audit", title_justify="left")
    for name, value in _summary(findings, findings.at_last_time):
        table.add_row(name, Text(value))
    console = Console()
    console.print(table)
    for one in findings.suspects[:5]:
        console.print(
            Text(f"  {plain(findings.train.ids[one.row])}: {plain(one.reason, 400)}"), soft_wrap=True
        )
    print(f"report: {found.run / 'report.html'}" if found.run else "")


def _summary(findings: Findings, at: ModelAtTime) -> list[tuple[str, str]]:
    n = len(findings.train)
    said = [("training examples, queries", f"{n}, {len(findings.query)}")]
    if at.query_accuracy is not None and at.left_out_accuracy is not None:
        said.append(("accuracy on queries", f"{at.query_accuracy:.1%}"))
        said.append(("exact left-out accuracy on training", f"{at.left_out_accuracy:.1%}"))
    else:
        said.append(("mean loss on queries", f"{at.query_loss:.4g}"))
        said.append(("exact left-out loss on training", f"{at.left_out_loss:.4g}"))
    if findings.learned is not None:
        said.append(("early stopping time", stop_line(findings.learned, findings.time_unit)))
    if findings.linearisation_gap is not None:
        said.append(("gap to your network", _gap_line(findings.linearisation_gap)))
    said.append(("labels doubted", f"{len(findings.suspects)} ({len(findings.suspects) / n:.1%})"))
    stop = findings.redundant.stop
    said.append(("can go without loss (1 %)", f"{stop} ({stop / n:.0%})"))
    said.append(("under-sampled, outliers", f"{len(findings.rare)}, {len(findings.outliers)}"))
    said.append(("small kinds within classes", f"{len(findings.subclasses)}"))
    if findings.sources is not None:
        named = [plain(one.name, 40) for one in findings.sources.sources[:SOURCES]]
        said.append(("sources, worth most for each example first", ", ".join(named)))
    said.append(("identical inputs", f"{len(findings.duplicates)} groups"))
    said.append(("engine against refits", f"{findings.certificate.refit_difference:.1e} relative, at most"))
    return said


def _gap_line(found: LinearisationGap) -> str:
    """Return how far the linearised model is from its network."""
    line = f"{found.relative_gap:.2g} of what training moved"
    if found.retrained is None:
        return line
    return f"{line}; against retraining: correlation {found.retrained.pearson:.3f}"
