"""`leftout audit`: fit, leave every example out, report."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.audit.audit import Audit, run_audit
from leftout.audit.repeat import changes_since
from leftout.audit.request import audit_request
from leftout.audit.summary import corrections_row
from leftout.cli.commands import AuditArguments
from leftout.cli.kernel_choice import ResolvedKernel, kernel_change, resolve_and_show
from leftout.cli.model import rule_for, solver_of, training_of
from leftout.cli.provenance_names import provenance_names
from leftout.cli.start import STOPPED
from leftout.core.errors import OptionError
from leftout.core.json_file import read_json
from leftout.core.wording import plain
from leftout.diagnostics.linearity.linearisation_gap import LinearisationGap
from leftout.dynamics.rules import Rule
from leftout.planning.plan import plan
from leftout.report.findings import Findings, ModelAtTime
from leftout.report.training_time_panel import stop_line

SOURCES_SHOWN = 5
"""Sources named at the end of an audit, those worth most for each example."""

LONG_AUDIT = 2_000
"""Training examples from which an audit takes long enough that a person is told beforehand."""


def audit_command(arguments: AuditArguments) -> None:
    """Run an audit, or repeat one, and print its summary."""
    folder, run, record = Path.cwd(), Path("run"), None
    if arguments.repeat is not None:
        path = arguments.repeat / "run.json" if arguments.repeat.is_dir() else arguments.repeat
        record = read_json(path)
        run = path.resolve().parent.with_name(path.resolve().parent.name + "-again")
        repeated, folder = recorded_arguments(path, record)
        arguments = replace(repeated, out=arguments.out, memory=arguments.memory, device=arguments.device)
    run = (arguments.out or run).resolve()
    try:
        with contextlib.chdir(folder):
            if record is not None:
                arguments.check()
            resolved = resolve_and_show(arguments)
            if change := kernel_change(resolved, record):
                print(f"leftout: {plain(change, 2000)}", file=sys.stderr)
            rule = rule_for(arguments, resolved.kernel, resolved.train)
            _show_plan(arguments, resolved, rule)
            provenance = arguments.provenance
            request = audit_request(
                resolved.selection or resolved.kernel,
                resolved.train,
                resolved.query,
                rule=rule,
                at=arguments.times,
                refit_examples=arguments.refit_examples,
                retrain_examples=arguments.retrain_examples,
                retrain_subsets=arguments.retrain_subsets,
                training=training_of(arguments, len(resolved.train)),
                provenance=provenance
                and provenance_names(provenance, arguments.data, resolved.train, arguments.yes_no("header")),
                seed=arguments.seed,
                **solver_of(arguments),
                device=arguments.device,
                memory=arguments.memory,
            )
            command: dict[str, Any] = {"options": arguments.record, "folder": str(folder)}
            if changes := [] if record is None else changes_since(record, request):
                text = f"since that run was made, these changed: {', '.join(changes)}. Results may differ."
                print(f"leftout: take care: {plain(text, 2000)}", file=sys.stderr)
                command["changes"] = changes
            finished = run_audit(request, run, command=command)
    except KeyboardInterrupt:
        print("Stopped. What is done is kept: run the same command to go on.", file=sys.stderr)
        raise typer.Exit(STOPPED) from None
    _show_audit(finished)


def recorded_arguments(path: Path, record: Any) -> tuple[AuditArguments, Path]:
    """Return the arguments of a run and the folder in which it was asked for.

    Args:
        path: of its `run.json`, for messages.

    Raises:
        OptionError: a record that does not say what was asked, or that this version does not know.
    """
    command: Any = record.get("command") if isinstance(record, dict) else None
    try:
        options, folder = command["options"], Path(command["folder"])
    except (KeyError, TypeError):
        raise OptionError(
            f"--repeat needs the run.json of a run made by this command; {str(path)!r} says not what was "
            "asked (repeat a run made in Python there)."
        ) from None
    return AuditArguments.from_record(options), folder if folder.is_dir() else Path.cwd()


def _show_plan(arguments: AuditArguments, resolved: ResolvedKernel, rule: Rule) -> None:
    """Tell a person at a terminal what a long audit will take."""
    if not sys.stderr.isatty() or len(resolved.train) < LONG_AUDIT:
        return
    expected = plan(
        resolved.kernel,
        resolved.train,
        resolved.query,
        rule=rule,
        at=arguments.times,
        refit_examples=arguments.refit_examples,
        **solver_of(arguments),
        device=arguments.device,
        memory=arguments.memory,
    )
    Console(stderr=True).print(Text(expected.summary))


def _show_audit(finished: Audit) -> None:
    """Print the short table at the end of an audit."""
    findings = finished.findings
    table = Table(show_header=False, title="leftout audit", title_justify="left")
    for name, text in _summary(findings, findings.at_last_time):
        table.add_row(name, Text(text))
    console = Console()
    if findings.refusal:
        console.print(Text(findings.refusal, style="bold"), soft_wrap=True)
    if findings.dominant:
        console.print(Text(plain(findings.dominant, 2000), style="bold"), soft_wrap=True)
    if findings.verdict:
        console.print(Text(plain(findings.verdict, 2000)), soft_wrap=True)
    console.print(table)
    if findings.label_note:
        console.print(Text(findings.label_note), soft_wrap=True)
    for suspect in findings.suspects[:5]:
        line = f"  {plain(findings.train.ids[suspect.row])}: {plain(suspect.reason, 400)}"
        console.print(Text(line), soft_wrap=True)
    print(f"report: {finished.run / 'report.html'}" if finished.run else "")


def _summary(findings: Findings, last: ModelAtTime) -> list[tuple[str, str]]:
    """Return names and texts of the table."""
    n = len(findings.train)
    preparation = findings.train.preparation
    drawn = f", drawn by --seed {preparation['seed']}" if preparation.get("split") == "by seed" else ""
    rows = [("training examples, queries", f"{n}, {len(findings.query)}{drawn}")]
    rows += [(name, plain(text, 400)) for name, text in corrections_row(findings.train).items()]
    of_labels = " by another kernel" if findings.label_note else ""
    exact = "" if findings.one_step and not findings.label_note else "exact "
    if last.query_accuracy is not None:
        rows.append(("accuracy on queries", f"{last.query_accuracy:.1%}"))
    else:
        rows.append(("mean loss on queries", f"{last.query_loss:.4g}"))
    if last.left_out_accuracy is not None:
        rows.append((f"{exact}left-out accuracy on training{of_labels}", f"{last.left_out_accuracy:.1%}"))
    elif findings.doubts_labels:
        rows.append((f"{exact}left-out loss on training{of_labels}", f"{last.left_out_loss:.4g}"))
    if findings.ridge_choice is not None:
        rows.append(("ridge", findings.ridge_choice.text))
    if findings.learned is not None:
        rows.append(("early stopping time", stop_line(findings.learned, findings.time_unit)))
    if findings.linearisation_gap is not None:
        rows.append(("gap to your network", _gap_line(findings.linearisation_gap)))
    doubted = f"{len(findings.suspects)} ({len(findings.suspects) / n:.1%})"
    stop = findings.redundant.stop
    removable = f"{stop} ({stop / n:.0%})"
    if findings.refusal:
        doubted = removable = "none: the model knows nothing of the targets"
    rows.append((f"labels doubted{of_labels}", doubted if findings.doubts_labels else "not asked"))
    of_class = "" if findings.train.classes is None else ", of a class 5 %"
    rows.append((f"can go without loss (1 %{of_class})", removable))
    rows.append(("under-sampled, outliers", f"{len(findings.rare)}, {len(findings.outliers)}"))
    rows.append(("small kinds within classes", f"{len(findings.subclasses)}"))
    if findings.sources is not None:
        names = [plain(source.name, 40) for source in findings.sources.sources[:SOURCES_SHOWN]]
        rows.append(("sources, worth most for each example first", ", ".join(names)))
    rows.append(("identical inputs", f"{len(findings.duplicates)} groups"))
    against = "one Newton step against refits" if findings.one_step else "engine against refits"
    if findings.one_step:
        count = len(findings.certificate.refits)
        worst = f"{findings.certificate.refit_difference:.1e} relative, of {count} random examples"
        return [*rows, (against, worst)]
    rows.append((against, f"{findings.certificate.refit_difference:.1e} relative, at most"))
    return rows


def _gap_line(gap: LinearisationGap) -> str:
    """Return how far the linearised model is from its network."""
    line = f"{gap.relative_gap:.2g} of what training moved"
    if gap.retraining is None:
        return line
    return f"{line}; against retraining: correlation {gap.retraining.pearson:.3f}"
