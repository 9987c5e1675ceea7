"""A user's own network on the command line: is it read, refused in a sentence, and reported on?"""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import leftout as lo
from leftout.cli.module_file import network, read_weights
from leftout.core.errors import DataError, OptionError
from leftout.diagnostics.retraining.sgd_training import train_alone
from leftout.kernels.network.last_layers import affordable_layers

FILE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 2))

def ten():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))

def images():
    return nn.Conv2d(3, 2, 3)

def none():
    return 3

def broken():
    raise ValueError("no such layer")
"""


@pytest.fixture
def folder(tmp_path, leftout):
    (tmp_path / "net.py").write_text(FILE)
    return tmp_path


def test_a_module_is_built_filled_and_put_in_eval_mode(folder) -> None:
    built = network("net.py:build")
    assert not built.training
    weights = {name: torch.randn_like(one) for name, one in built.state_dict().items()}
    save_file(weights, "w.safetensors")
    torch.save(weights, "w.pt")
    for file in ("w.safetensors", "w.pt"):
        filled = network("net.py:build", file).state_dict()
        assert all(torch.equal(filled[name], one) for name, one in weights.items())


class Pickled:
    def __reduce__(self):
        return print, ("code was run",)


def test_no_code_in_a_file_of_weights_is_run(folder, capsys) -> None:
    torch.save(Pickled(), "w.pt")
    with pytest.raises(DataError, match="must hold weights"):
        read_weights(folder / "w.pt")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "weights", "error", "message"),
    [
        ("net.py", None, OptionError, "must be FILE.py:FUNCTION"),
        ("other.py:build", None, DataError, "must be a file"),
        ("net.py:other", None, DataError, "must define a function 'other'"),
        ("net.py:none", None, DataError, "must return an nn.Module; got int"),
        ("net.py:broken", None, DataError, "it raised ValueError: no such layer"),
        ("net.py:build", "no.safetensors", DataError, "must be a file"),
        ("net.py:build", "net.py", DataError, "must hold weights"),
        ("net.py:build", "bad.safetensors", DataError, "must hold weights"),
        ("net.py:build", "list.pt", DataError, "must hold tensors by name.*got list"),
        ("net.py:build", "ten.pt", DataError, r"lacks '4.weight', '4.bias', has besides '3.weight'"),
        ("net.py:build", "shape.pt", DataError, r"another shape '4.bias \(3,\) for \(2,\)'"),
    ],
)
def test_what_cannot_be_read_is_named(folder, source, weights, error, message) -> None:
    (folder / "bad.safetensors").write_bytes(b"\xff" * 40)
    torch.save([1, 2], "list.pt")
    (folder / "junk.pt").write_bytes(b"hello")
    torch.save(network("net.py:build"), "whole.pt")
    state = network("net.py:build").state_dict()
    torch.save({name: one.to(torch.complex64) for name, one in state.items()}, "complex.pt")
    torch.save(network("net.py:ten").state_dict(), "ten.pt")
    other = network("net.py:build").state_dict() | {"4.bias": torch.zeros(3)}
    torch.save(other, "shape.pt")
    with pytest.raises(error, match=message):
        network(source, weights)


SHARED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.norm, self.a, self.b = nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.body = nn.Sequential(self.a, nn.Tanh())
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.b(self.body(self.norm(x))) * self.scale

def build():
    return Net()

def weight_norm():
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
"""


@pytest.fixture
def shared(tmp_path, leftout):
    (tmp_path / "shared.py").write_text(SHARED)
    return {name: torch.full_like(one, 0.5) for name, one in network("shared.py:build").state_dict().items()}


def without(weights, *ends):
    return {name: one for name, one in weights.items() if not name.endswith(ends)}


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {"state_dict": weights, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
        lambda weights: {"model": weights, "args": {"lr": 0.1}},
        lambda weights: {"model_state_dict": weights, "loss": torch.tensor(0.1)},
        lambda weights: {f"module.{name}": one for name, one in weights.items()},
        lambda weights: {f"_orig_mod.{name}": one for name, one in weights.items()},
        lambda weights: {"state_dict": {f"module._orig_mod.{name}": one for name, one in weights.items()}},
        lambda weights: {f"_orig_mod.module.{name}": one for name, one in weights.items()},
        lambda weights: {
            name.replace("body.", "body._orig_mod."): one
            for name, one in weights.items()
            if not name.startswith("a.")
        },
        lambda weights: without(weights, "num_batches_tracked"),
        lambda weights: without(weights, "a.weight"),
        lambda weights: without(weights, "b.weight", "body.0.weight", "body.0.bias"),
        lambda weights: weights | {"scale": weights["scale"][None]},
        lambda weights: {name: one.half() if one.ndim else one for name, one in weights.items()},
    ],
)
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_that_load_state_dict_accepts_are_accepted(shared, change, kind) -> None:
    weights = change(shared)
    if kind == "safetensors":
        if not all(isinstance(one, torch.Tensor) for one in weights.values()):
            pytest.skip("safetensors holds tensors only")
        save_file({name: one.clone() for name, one in weights.items()}, "w.safetensors")
    else:
        torch.save(weights, "w.pt")
    filled = network("shared.py:build", f"w.{kind}")
    assert all(bool((weight == 0.5).all()) for weight in filled.parameters())
    assert bool((filled.norm.running_var == 0.5).all())
    assert filled.b.weight is filled.a.weight
    assert filled.body[0] is filled.a


def test_weights_of_an_older_torch_are_read_by_the_module_itself(shared) -> None:
    old = {"weight_g": torch.full((4, 1), 2.0), "weight_v": torch.eye(4), "bias": torch.zeros(4)}
    torch.save(old, "old.pt")
    assert torch.equal(network("shared.py:weight_norm", "old.pt").weight, 2 * torch.eye(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: {"model": weights, "ema": weights},
            "must hold one set of weights; it holds 'model', ",
        ),
        (lambda weights: {"epoch": 3}, "must hold tensors by name.*got dict. Save the state dict itself"),
        (
            lambda weights: without(weights, "a.weight", "b.weight", "0.weight"),
            "it lacks 'a.weight', 'b.weig",
        ),
        (
            lambda weights: weights | {"b.weight": torch.zeros(4, 4)},
            "has different numbers for 'a.weight and b.weight, which are one'",
        ),
        (
            lambda weights: weights | {"b.weight": torch.zeros(4, 3), "more": torch.zeros(1)},
            r"has besides 'more', has in another shape 'b.weight \(4, 3\) for \(4, 4\)'\.$",
        ),
        (lambda weights: weights | {"a.bias": torch.zeros(4).long()}, "another type 'a.bias torch.int64'"),
        (
            lambda weights: {f"layer{i}.weight": torch.zeros(1) for i in range(9)},
            "lacks .* and 8 more, has besides 'layer0.weight', 'layer1.weight', 'layer2.weight' and 6 more",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_count(shared, change, message) -> None:
    torch.save(change(shared), "w.pt")
    with pytest.raises(DataError, match=message):
        network("shared.py:build", "w.pt")


def test_the_pretrained_resnet_is_loaded_from_the_command_line(shared_data, tmp_path, leftout) -> None:
    weights = shared_data / "resnet20-cifar10" / "resnet20.safetensors"
    if not weights.is_file():
        pytest.skip(f"no {weights.name} beside the real data")
    (tmp_path / "data.py").write_text(
        "import torch\n\ndef pair():\n    g = torch.Generator().manual_seed(0)\n"
        "    return tuple((torch.rand(n, 3, 32, 32, generator=g), torch.arange(n) % 10) for n in (20, 10))\n"
    )
    (tmp_path / "resnet.py").write_text(
        "from leftout_papers.smooth_information.networks import ResNet20\n\n"
        "def build():\n    return ResNet20()\n"
    )
    words = ["influence", "data.py:pair", "--model", "resnet.py:build", "--weights", weights]
    code, _, err = leftout(*words, "--parameters", "linear.*", "--ridge", 1, "--out", "scores.csv")
    assert code == 0, err
    assert (tmp_path / "scores.csv").is_file()


def test_an_audit_of_a_network_says_how_far_the_model_is_from_it(folder, leftout) -> None:
    words = ["audit", "digits", "--classes", "3,8", "--n-train", 40, "--n-query", 12]
    words += ["--model", "net.py:build", "--rule", "descent", "--rate", 0.005, "--at", 20]
    code, out, _ = leftout(*words, "--retrain-examples", 3, "--out", "run")
    assert code == 0
    assert "gap to your network" in out
    record = json.loads((folder / "run" / "run.json").read_text())
    found = record["linearisation_gap"]
    assert 0 < found["relative_gap"] < 1
    assert len(found["retraining"]["left_out"]) == 3
    assert record["command"]["options"]["retrain_examples"] == 3
    assert record["command"]["options"]["model"] == "net.py:build"
    # Two classes have a column each, as the network has; not centred, as its outputs are.
    assert record["preparation"]["train"]["centre"] == "none"
    page = (folder / "run" / "report.html").read_text()
    assert "Does this speak for your network?" in page
    assert "The model is your network, linearised." in page
    assert not (folder / "run" / "trainings").exists()
    # The same again, from its record.
    assert leftout("audit", "--repeat", "run/run.json")[0] == 0
    again = json.loads((folder / "run-again" / "run.json").read_text())
    assert again["linearisation_gap"] == found


@pytest.fixture
def weights(folder):
    """A file of weights that squared loss has taught sixty digits."""
    module = network("net.py:build")
    train, _ = lo.load("digits", classes=["3", "8"], n_train=60, n_query=12, normalise=None, centre="none")
    targets = train.in_columns(2).targets.float()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        (module(train.inputs.float()) - targets).square().sum(1).mean().backward()
        optimiser.step()
    save_file(module.state_dict(), "trained.safetensors")
    sizes = ["--classes", "3,8", "--n-train", 60, "--n-query", 12]
    return [*sizes, "--weights", "trained.safetensors", "--loss", "squared"]


@pytest.fixture
def classifier(folder):
    """A file of weights that cross-entropy has taught sixty digits, eight of them in a step."""
    (folder / "net.py").write_text(FILE + WIDE)
    train, _ = lo.load("digits", classes=["3", "8"], n_train=60, n_query=12, normalise=None, centre="none")
    recipe = lo.SGDTraining(
        build=lambda: network("net.py:wide"), epochs=10, batch_size=8, learning_rate=0.02, momentum=0.9
    )
    save_file(train_alone(recipe, train, (torch.arange(60), 3)).state_dict(), "classifier.safetensors")
    sizes = ["--classes", "3,8", "--n-train", 60, "--n-query", 12, "--refit-examples", 0]
    return ["audit", "digits", "--model", "net.py:wide", *sizes, "--weights", "classifier.safetensors"]


WIDE = """
def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 2))
"""


def test_an_audit_says_first_whether_its_answers_speak_for_the_network(folder, leftout, classifier) -> None:
    run = ["--learning-rate", 0.02, "--momentum", 0.9, "--steps", 80]
    code, out, err = leftout(*classifier, *run, "--out", "run")
    assert code == 0, err
    assert "that of the training run" in out
    assert out.index("Verdict: for groups of examples") < out.index("leftout audit")
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["verdict"].startswith("Verdict: ")
    assert record["retrained"] == []
    # The same measured: eighty steps are ten epochs of eight.
    retrain = ["--retrain-subsets", 8, "--retrain-examples", 8, "--batch-size", 8]
    code, out, err = leftout(*classifier, *run, *retrain, "--out", "measured")
    assert code == 0, err
    assert "steps are taken as" not in out
    record = json.loads((folder / "measured" / "run.json").read_text())
    assert [each["measure"] for each in record["retrained"]] == ["lds", "leave_one_out"]
    assert record["computation"]["training"]["epochs"] == 10
    assert all(each["sentence"] in record["verdict"] for each in record["retrained"])
    assert leftout("audit", "--repeat", "measured/run.json")[0] == 0
    again = json.loads((folder / "measured-again" / "run.json").read_text())
    assert again["retrained"] == record["retrained"]


def test_a_run_that_ended_within_an_epoch_is_rounded_and_that_is_said(folder, leftout, classifier) -> None:
    run = ["--learning-rate", 0.02, "--momentum", 0.9, "--steps", 83, "--batch-size", 8]
    code, out, err = leftout(*classifier, *run, "--retrain-subsets", 8, "--out", "run")
    assert code == 0, err
    assert "note: 83 steps are taken as 10 epochs of 8, 80 steps" in out


def test_where_nothing_is_said_of_the_run_its_training_loss_gives_the_ridge(
    folder, leftout, classifier
) -> None:
    code, out, err = leftout(*classifier, "--out", "run")
    assert code == 0, err
    assert "at which the kernel of its architecture has the network's training loss" in out
    module = network("net.py:wide", "classifier.safetensors")
    train, _ = lo.load(
        "digits", classes=["3", "8"], n_train=60, n_query=12, normalise=None, centre="none", outputs=2
    )
    expected = lo.ridge_from_loss(lo.kernels.Empirical(module), train)
    rule = json.loads((folder / "run" / "run.json").read_text())["computation"]["fitted"]["rule"]
    assert rule["ridge"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("default::leftout.core.errors.WeightsWarning")
def test_a_file_of_weights_is_read_as_trained_and_that_is_said(folder, leftout, weights) -> None:
    words = ["audit", "digits", "--model", "net.py:build", *weights, "--refit-examples", 1]
    code, out, err = leftout(*words, "--out", "run")
    assert code == 0, err
    assert "note: the model is your network at its trained weights" in out
    assert "The trained weights have seen every label, so labels are doubted" in out.replace("\n", " ")
    assert "labels doubted by another kernel" in out
    assert "gap to your network" not in out
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["computation"]["fitted"]["kernel"]["weights"] == "trained"
    assert record["linearisation_gap"] is None
    assert "This is your network at its trained weights" in (folder / "run" / "report.html").read_text()
    # As they were read before; now with a warning, as they have plainly seen the labels.
    code, out, err = leftout(*words, "--linearised-at", "initial", "--out", "before")
    assert code == 0, err
    assert "take care: The network already explains" in err
    assert "note: the model is your network trained from these initial weights" in out
    assert "gap to your network" in out
    record = json.loads((folder / "before" / "run.json").read_text())
    assert record["computation"]["fitted"]["kernel"]["weights"] == "initial"
    assert record["command"]["options"]["linearised_at"] == "initial"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit", "--rule", "descent", "--rate", 0.01], "--rule descent trains a network from its initial"),
        (["plan", "--at", 3], "--rule flow trains a network from its initial weights"),
        (["curve"], "A learning curve is of a kernel that has not seen the labels"),
        (["audit", "--retrain-examples", 8], "--learning-rate, --steps, --batch-size must be given"),
        (["audit", "--retrain-subsets", 8, "--batch-size", 9], "--learning-rate, --steps must be given"),
        (["audit", "--batch-size", 9], "--batch-size belongs to --retrain-subsets"),
        (["prune", "--retrain"], "is trained again from its initial weights, by squared loss"),
        (["audit", "--centre", "uniform"], 'Load with centre="none" (--centre none)'),
        (
            ["audit", "--label-aware", "kr-v1", "--outputs", "trace"],
            "--label-aware starts from a kernel that",
        ),
    ],
)
def test_what_trained_weights_cannot_answer_is_one_sentence(folder, leftout, weights, words, message) -> None:
    command, *more = words
    code, _, err = leftout(command, "digits", "--model", "net.py:build", *weights, *more)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


LONG = "note: the model moves the weights of the last 1 of 2 layers, '4': 26 of 806 weights (3.2\u202f%), as "


@pytest.mark.usefixtures("machine_measured_once")
@pytest.mark.filterwarnings("default::leftout.core.errors.WeightsWarning")
def test_a_plan_looks_at_a_few_examples_for_its_ridge(folder, leftout, weights) -> None:
    words = ("plan", "digits", "--model", "net.py:build", *weights[:-1], "cross-entropy")
    code, out, err = leftout(*words)
    assert code == 0, err
    about = "here about a hundredth of the diagonal"
    assert f"as nothing is said of the training run ({about}, that of the first 16 examples)" in out
    assert "60 training examples and 12 queries take about" in out.replace("\n", " ")
    code, out, err = leftout(*words, "--n-train", "12")
    assert code == 0, err
    assert f"as nothing is said of the training run ({about})\n" in out


@pytest.mark.usefixtures("machine_measured_once")
@pytest.mark.filterwarnings("default::leftout.core.errors.WeightsWarning")
def test_last_layers_are_taken_where_all_take_too_long_and_that_is_said(
    folder, leftout, weights, monkeypatch
) -> None:
    words = ("digits", "--model", "net.py:build")
    audit = ("audit", *words, *weights, "--ridge", "0.1", "--refit-examples", "0")

    def of_run(out):
        return json.loads((folder / out / "run.json").read_text())["computation"]["fitted"]["kernel"]

    code, out, err = leftout(*audit, "--out", "all")
    assert (code, "last 1 of 2" in out) == (0, False), err
    assert (of_run("all")["patterns"], of_run("all")["parameters"]) == (None, 806)
    monkeypatch.setattr("leftout.cli.model.affordable_layers", partial(affordable_layers, most=1.0))
    code, out, err = leftout(*audit, "--out", "few")
    assert code == 0, err
    assert LONG in out
    assert "--parameters all takes the rest too." in out
    assert of_run("few")["patterns"] == ["last:1"]
    assert (of_run("few")["parameters"], of_run("few")["of_parameters"]) == (26, 806)
    report = (folder / "few" / "report.html").read_text()
    assert "the last 1 of 2 layers" in report
    assert "26 of 806 weights" in report
    # The plan is that of the same kernel, a run is repeated as it was, and other commands agree.
    assert LONG in leftout("plan", *words, *weights)[1]
    assert LONG in leftout("audit", "--repeat", "few")[1]
    assert LONG in leftout("influence", *words, *weights)[1]
    assert LONG in leftout("rare", *words, *weights)[1]
    for asked in ("all", "*.weight"):
        assert "note: the model moves" not in leftout(*audit, "--parameters", asked, "--out", asked[-1])[1]
    # Initial weights are trained as they stand: nothing is left out that was not asked for.
    initial = leftout(*audit, "--linearised-at", "initial", "--out", "initial")
    assert (initial[0], LONG in initial[1]) == (0, False), initial[2]


def test_rare_examples_of_trained_weights_are_those_of_a_kernel_that_has_not_seen_them(
    folder, leftout, weights
) -> None:
    code, out, err = leftout("rare", "digits", "--model", "net.py:build", *weights)
    assert code == 0, err
    assert "The trained weights have seen every label" in out.replace("\n", " ")


def test_approximations_of_the_kernel_carry_their_measured_error(folder, leftout) -> None:
    words = ["audit", "digits", "--n-train", 30, "--n-query", 10, "--model", "net.py:ten"]
    for number, more in enumerate((["--outputs", "trace"], ["--projection", "gaussian:200"])):
        assert leftout(*words, *more, "--out", f"run{number}")[0] == 0
        record = json.loads((folder / f"run{number}" / "run.json").read_text())
        assert 0 < record["certificate"]["approximation"]["frobenius"] < 1.5
        assert record["linearisation_gap"] is None
        page = (folder / f"run{number}" / "report.html").read_text()
        assert "Approximation of the kernel" in page
        assert "Does this speak for your network?" not in page


def test_some_parameters_can_be_trained_and_the_others_held(folder, leftout) -> None:
    words = ["audit", "digits", "--n-train", 30, "--n-query", 10, "--model", "net.py:ten"]
    assert leftout(*words, "--parameters", "3.*", "--out", "head")[0] == 0
    record = json.loads((folder / "head" / "run.json").read_text())
    assert record["computation"]["fitted"]["kernel"]["parameters"] == 70
    # Of the last layer alone the network is a linear function: no gap but that of float32.
    assert record["linearisation_gap"]["relative_gap"] < 1e-4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "w.pt"], "--weights belongs to --model"),
        (["--projection", "gaussian:5"], "--projection belongs to --model"),
        (["--model", "net.py:build", "--kernel", "relu"], "leave it out with --model"),
        (["--model", "net.py:build", "--depth", "3"], "leave it out with --model"),
        (["--model", "net.py:ten", "--projection", "gauss:9"], "--projection must be"),
        (["--model", "net.py:ten", "--projection", "gaussian"], "--projection must be"),
        (["--model", "net.py:ten", "--parameters", "nothing.*"], "nothing"),
        (["--model", "net.py:images"], "must return a tensor (n, k)"),
        (["--model", "net.py:build"], "the network has 2, the data have 10 classes"),
        (["--model", "net.py:build", "--loss", "squared"], "tells apart 2 outputs, the targets have 10"),
        (["--model", "net.py:ten", "--retrain-examples", "2"], "--retrain-examples must be 0, or at least 3"),
        (["--model", "net.py:ten", "--retrain-examples", "21"], "--retrain-examples must be at most 20"),
        (["--model", "net.py:ten", "--retrain-subsets", "9"], "--retrain-subsets trains --weights again"),
        (["--model", "net.py:ten", "--batch-size", "9"], "--batch-size trains --weights again"),
        (
            ["--model", "net.py:ten", "--retrain-examples", "3", "--rule", "flow"],
            "A flow is descent at a small rate",
        ),
        (["--retrain-examples", "3"], "--retrain-examples trains a network again"),
        (
            ["--model", "net.py:ten", "--retrain-examples", 3, "--outputs", "sum", "--loss", "squared"],
            "no exact one",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_one_sentence(folder, leftout, words, message) -> None:
    code, _, said = leftout("audit", "digits", "--n-train", 20, "--n-query", 10, *words)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not list(folder.glob("run*"))


def test_a_network_in_training_mode_is_asked_in_eval_mode(folder) -> None:
    assert isinstance(network("net.py:build")[3], nn.Dropout)
    assert not network("net.py:build")[3].training
