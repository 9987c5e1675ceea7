"""The commands: for each one record of its options, and the function that runs it. Loads no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from leftout.cli.arguments import Arguments, CommandRecord, flag_of
from leftout.cli.options import EvidenceOptions, ProvenanceOptions, RetrainingOptions
from leftout.core.errors import OptionError
from leftout.core.options import option
from leftout.dynamics.options import SolverOptions, TrainingRunOptions

CSV = "FILE.csv"
By = Literal["function", "weights"]
SourceName = Literal["leftout", "dattri", "trak", "kronfluence", "captum", "pydvl", "quanda"]
Orientation = Literal["query, train", "train, query"]


@dataclass(frozen=True, kw_only=True)
class AuditArguments(
    ProvenanceOptions, RetrainingOptions, EvidenceOptions, SolverOptions, TrainingRunOptions, Arguments
):
    """Audit a data set: wrong labels, redundant and rare examples, influence, in one report."""

    home = "leftout.cli.command_audit:audit_command"
    example = "digits --out run"
    kernel_use = "chosen"
    suffixes = ()

    out: Path | None = option(
        None, "Folder for the results; run, or RUN-again with --repeat.", recorded=False
    )
    repeat: Path | None = option(
        None,
        "Repeat RUN, a folder or its run.json, with no other flags; runs a FILE.py that it names.",
        recorded=False,
    )

    @property
    def retrains(self) -> bool:
        return self.retrain_examples > 0 or self.retrain_subsets > 0

    def check_retraining(self) -> None:
        """Raise where trained weights are to be trained again, and it is not said how, or others are."""
        if not self.is_trained:
            for name in ("retrain_subsets", "batch_size"):
                if name in self.explicit:
                    raise OptionError(f"{flag_of(name)} trains --weights again that are trained; give those.")
            return
        needed = ("learning_rate", "steps", "batch_size")
        missing = ", ".join(flag_of(name) for name in needed if getattr(self, name) is None)
        if self.retrains and missing:
            raise OptionError(
                f"{missing} must be given where trained --weights are trained again: how they were trained, "
                "by SGD. With another optimiser or schedule, call lo.audit(…, training=lo.SGDTraining(…))."
            )
        if self.batch_size is not None and not self.retrains:
            raise OptionError(
                "--batch-size belongs to --retrain-subsets or --retrain-examples; leave it out."
            )

    def check(self) -> None:
        """Raise where options do not go together; those of a repeated run are checked once they are read."""
        if self.repeat is None:
            super().check()
        elif not self.explicit <= {"repeat", "out", "memory", "device"}:
            raise OptionError(
                "--repeat repeats a run as it was asked: give no other flags with it but --out, --memory "
                "and --device."
            )


@dataclass(frozen=True, kw_only=True)
class InfluenceArguments(SolverOptions, TrainingRunOptions, Arguments):
    """Show which training examples helped or harmed a prediction, exactly."""

    home = "leftout.cli.command_influence:influence_command"
    example = "digits --of-query digits/0003 --top 5"
    kernel_use = "chosen"
    suffixes = (".csv", ".zarr")

    of_query: tuple[str, ...] = option(
        (), "Id of a query, again for each; the mean over all queries by default."
    )
    top: int = option(5, "Most helpful and most harmful examples shown.")
    out: Path | None = option(None, "Save all scores: FILE.csv, or FILE.zarr for any size.")
    of: Literal["loss", "prediction"] = option("loss", "What is saved with --out.")
    method: Literal["leave-one-out", "first-order"] = option(
        "leave-one-out", "Exactly, or as the classical influence function has it (at the end)."
    )
    spread: bool = option(
        False, "With its mean and standard deviation over initial weights (of a deep kernel)."
    )

    def check(self) -> None:
        """Raise where options do not go together."""
        if self.label_aware is not None or self.kernel == "hierarchy":
            if self.spread:
                raise OptionError("--spread is not known of kernels that see labels; leave one of them out.")
            if self.method == "first-order" and not self.labels_frozen:
                raise OptionError(
                    "--method first-order takes the kernel as it is: add --labels-frozen, or leave it out."
                )
        if self.out is None and "of" in self.explicit:
            raise OptionError("--of says what --out saves; give a file with --out, or leave it out.")
        if self.method == "first-order" and self.of != "loss":
            raise OptionError("--of prediction goes with --method leave-one-out; leave one of them out.")
        if self.spread:
            self.check_spread()
        super().check()

    def check_spread(self) -> None:
        """Raise unless there is a spread that can be shown or saved."""
        if self.method != "leave-one-out":
            raise OptionError("--spread goes with --method leave-one-out; leave one of them out.")
        if not self.of_query and self.out is None:
            raise OptionError(
                "--spread is of single queries: name them with --of-query, or save all with --out."
            )
        if self.of_query and self.of == "prediction":
            raise OptionError(
                "--of-query shows the spread of the loss; with --of prediction save all queries, without it."
            )


@dataclass(frozen=True, kw_only=True)
class PlanArguments(EvidenceOptions, SolverOptions, TrainingRunOptions, Arguments):
    """Say what an audit will take - memory, time, method - before anything is allocated."""

    home = "leftout.cli.command_plan:plan_command"
    example = "mnist:DIR --n-train 5000 --at 1 --at 10"


@dataclass(frozen=True, kw_only=True)
class FittedArguments(TrainingRunOptions, Arguments):
    """Options of a command that asks a fitted model at one training time, with the kernel as it is."""

    kernel_use = "fixed"

    def check(self) -> None:
        """Raise where several times are given, or options do not go together."""
        if len(self.at) > 1:
            raise OptionError(
                f"--at must be given once here; got {', '.join(f'{time:g}' for time in self.at)}."
            )
        super().check()


@dataclass(frozen=True, kw_only=True)
class InformationArguments(FittedArguments):
    """Say how much each training example tells the model that no other one does, in nats."""

    home = "leftout.cli.commands_curation:information_command"
    example = "digits --n-train 500 --top 10"

    top: int = option(5, "Examples shown.")
    out: Path | None = option(None, f"Save all of them: {CSV}.")


@dataclass(frozen=True, kw_only=True)
class PruneArguments(FittedArguments):
    """Say which examples can go, and predict loss and accuracy without them, with no training."""

    home = "leftout.cli.commands_curation:prune_command"
    example = "digits --n-train 500 --order iterative"

    order: Literal["least", "most", "random", "iterative"] = option(
        "least", "Least or most informative first; by chance; least, asked again after each round."
    )
    by: By = option("function", "Information about the answers at the queries, or about the weights.")
    share: tuple[float, ...] = option((), "Of the training examples to remove, again for each; up to 0.95.")
    tolerance: float = option(0.01, "Relative rise of the loss that is acceptable at the suggested stop.")
    class_tolerance: float = option(0.05, "The same of the loss of each class.")
    retrain: bool = option(False, "Train a network again at every share, to compare.")
    width: int = option(4096, "Neurons of that network, without --model.")
    jobs: int | None = option(None, "Processes that train.")
    top: int = option(5, "Examples shown.")
    out: Path | None = option(None, f"Save the order: {CSV}.")

    @property
    def retrains(self) -> bool:
        return self.retrain

    def check(self) -> None:
        """Raise where a flag of the training is given without it, or options do not go together."""
        for name in ("width", "jobs"):
            if name in self.explicit and not self.retrain:
                raise OptionError(f"{flag_of(name)} belongs to --retrain; leave it out, or train.")
        if "width" in self.explicit and self.model is not None:
            raise OptionError("--width makes a network of its own; leave it out with --model.")
        super().check()


@dataclass(frozen=True, kw_only=True)
class RareArguments(FittedArguments):
    """Say what there is too little of, example by example and as whole kinds within classes."""

    home = "leftout.cli.commands_curation:rare_command"
    example = "digits --n-train 500"

    by: By = option("function", "Information about the answers at the queries, or about the weights.")
    top: int = option(5, "Examples shown.")
    out: Path | None = option(None, f"Save all of them: {CSV}.")


@dataclass(frozen=True, kw_only=True)
class SourcesArguments(ProvenanceOptions, FittedArguments):
    """Say which source of training examples is worth more: each example, and as a whole."""

    home = "leftout.cli.commands_curation:sources_command"
    example = "digits --n-train 500"

    provenance: str | None = option(
        None, "Column of the table, or FILE.csv with columns id and source; the class by default."
    )
    out: Path | None = option(None, f"Save the table: {CSV}.")


@dataclass(frozen=True, kw_only=True)
class CurveArguments(Arguments):
    """Predict error and accuracy at sample sizes beyond the one at hand, with intervals."""

    home = "leftout.cli.command_curve:curve_command"
    example = "digits --n-train 500 --n 1000 --n 5000"
    kernel_use = "chosen"
    refused: ClassVar = {"at": "--at must be left out here: the learning curve is for the end of training."}

    unseen = "a learning curve"

    n: tuple[int, ...] = option(
        (), "Sample size, again for each; 2, 5 and 10 times what there is by default."
    )
    confidence: float = option(0.95, "Of the intervals.")
    out: Path | None = option(None, f"Save the curve: {CSV}.")


@dataclass(frozen=True, kw_only=True)
class LearnabilityArguments(Arguments):
    """Show which modes of the target the kernel learns from n of these examples, as theory predicts."""

    home = "leftout.cli.command_learnability:learnability_command"
    example = "digits --n 100 --n 500"
    kernel_use = "fixed"
    refused: ClassVar = {"at": "--at must be left out here: learnability is for the end of training."}

    unseen = "learnability"

    n: tuple[int, ...] = option(
        (), "Examples learned from, again for each; 1/10, 1/4, 1/2 of all by default."
    )
    out: Path | None = option(None, f"Save all modes: {CSV}.")

    def check_rule(self) -> None:
        """Raise unless the rule is ridge regression with a sum over examples."""
        if self.rule_name != "ridge" or self.reduction != "sum":
            raise OptionError(
                "leftout learnability is for the end of training under --rule ridge and --reduction sum."
            )
        super().check_rule()


@dataclass(frozen=True, kw_only=True)
class ElasticityArguments(Arguments):
    """Say how local a kernel or network is, for every pair of classes: 0.5 does not tell them apart."""

    home = "leftout.cli.command_elasticity:elasticity_command"
    example = "digits --kernel relu --depth 1"
    refused: ClassVar = {
        **{
            name: f"{flag_of(name)} is about training; leftout elasticity looks at the kernel, before any. "
            "Leave it out."
            for name in ("rule", "ridge", "rate", "at", "loss", "reduction", "linearised_at")
        },
        "labels_frozen": "--labels-frozen is about leaving examples out; elasticity leaves none out.",
    }

    out: Path | None = option(None, f"Save all pairs: {CSV}.")

    def check_kernel(self) -> None:
        """Raise where a kernel with labels has no strength, or options are none of this kernel's."""
        if self.label_aware is not None and self.strength_number is None:
            raise OptionError("leftout elasticity needs --strength with --label-aware, a number such as 0.1.")
        super().check_kernel()


@dataclass(frozen=True, kw_only=True)
class LinearityArguments(Arguments):
    """Train a network beside its linearisation, and say whether the kernel speaks for it."""

    home = "leftout.cli.command_linearity:linearity_command"
    example = "digits --model net.py:build --steps 100"
    kernel_use = "fixed"
    refused: ClassVar = {
        **{
            name: "--outputs and --projection approximate the kernel; a linearised network has the whole of "
            "it. Leave them out."
            for name in ("outputs", "projection")
        },
        "at": "--at asks about a time; the whole training is compared here. Give --steps.",
        "linearised_at": "--linearised-at must be left out here: training starts from the weights as given.",
    }

    steps: int | None = option(None, "Steps to take; to convergence by default.")
    tolerance: float = option(1e-4, "Gradient, relative to the first, at which training has converged.")
    sample: int = option(100, "Training examples on which the kernel is compared.")
    out: Path | None = option(None, f"Save what was seen along the way: {CSV}.")

    def check_kernel(self) -> None:
        """Raise where there is no network, or options are none of this kernel's."""
        if not self.is_network:
            raise OptionError("leftout linearity needs --model, the network that is to be trained.")
        super().check_kernel()


@dataclass(frozen=True, kw_only=True)
class RefereeArguments(TrainingRunOptions, Arguments):
    """Judge scores against training that was really done again, or against exact refits of a kernel."""

    home = "leftout.cli.command_referee:referee_command"
    example = "digits --n-train 200 --kernel relu --depth 1"
    kernel_use = "fixed"
    refused: ClassVar = {"at": "--at must be left out here: scores are judged at the end of training."}

    scores: tuple[Path, ...] = option(
        (), "Scores to judge, FILE.npy, .pt, .safetensors, .zarr, …, again for each; the kernel's by default."
    )
    source: SourceName = option("leftout", "The tool that made --scores, whose axes and sign are taken.")
    orientation: Orientation | None = option(
        None, "Axes of --scores: 'query, train' or 'train, query', where the numbers do not tell."
    )
    truth: Path | None = option(
        None, "FILE.zarr of retrain_subsets or retrain, or the folder of a run; exact refits by default."
    )
    wrong_labels: Path | None = option(None, "FILE with the ids of wrong labels, one on a line.")
    subsets: int = option(200, "Random halves on which the kernel is fitted, without --truth.")
    top: int = option(10, "Largest effects that are compared.")
    resamples: int = option(1000, "Resamples behind each interval.")
    confidence: float = option(0.95, "Of the intervals.")
    out: Path | None = option(None, f"Save the table: {CSV}.")

    def check(self) -> None:
        """Raise where a flag would have to be ignored."""
        for name in ("source", "orientation"):
            if name in self.explicit and not self.scores:
                raise OptionError(f"{flag_of(name)} belongs to --scores; give the file, or leave it out.")
        if "subsets" in self.explicit and self.truth is not None:
            raise OptionError("--subsets is for exact refits; leave it out with --truth.")
        super().check()


@dataclass(frozen=True, kw_only=True)
class VerifyArguments(CommandRecord):
    """Say whether every file of a finished run is as it was made: status 1 where one is not."""

    home = "leftout.cli.command_verify:verify_command"
    example = "run"

    run: Path = option(Path("run"), "Folder of the run.")


@dataclass(frozen=True, kw_only=True)
class CheckArguments(CommandRecord):
    """Say whether this installation is sound: a minute of self-tests, with the numbers."""

    home = "leftout.cli.command_check:check_command"


COMMANDS: dict[str, type[CommandRecord]] = {
    "audit": AuditArguments,
    "influence": InfluenceArguments,
    "plan": PlanArguments,
    "information": InformationArguments,
    "prune": PruneArguments,
    "rare": RareArguments,
    "sources": SourcesArguments,
    "curve": CurveArguments,
    "learnability": LearnabilityArguments,
    "elasticity": ElasticityArguments,
    "linearity": LinearityArguments,
    "referee": RefereeArguments,
    "verify": VerifyArguments,
    "check": CheckArguments,
}
