"""Other tools, asked as their own documentation says, with the weights that the package itself gets.

python benchmarks/peers/tools.py OUT/TASK METHOD            in the environment of requirements.txt

Each writes the file that it writes by itself, where it writes one: the readers of `read_scores` are tested by
that as well.
"""

from functools import partial
from pathlib import Path

import torch
from measured import Method, Task, main
from networks import trained
from torch.nn.functional import cross_entropy

TRAK_DIMENSIONS = 512
"""As in dattri's benchmark. With its default of 2048 the matrix that it inverts would be singular here, and
with nearly as many dimensions as examples it is nearly so: the table has a fifth as many as well."""


def trak(task: Task, count: int, share: float | None = None) -> Path:
    # Its quickstart but for the dimensions: model ensemble, margin as output, Rademacher matrix.
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    modules, n = trained(str(task.folder), count), len(task.train_labels)
    weights = sum(weight.numel() for weight in modules[0].parameters())
    dimensions = round(share * n) if share else TRAK_DIMENSIONS
    projector = BasicProjector(
        grad_dim=weights,
        proj_dim=dimensions,
        seed=0,
        proj_type=ProjectionType.rademacher,
        device="cpu",
        block_size=200,
        dtype=torch.float32,
    )
    traker = TRAKer(
        model=modules[0],
        task="image_classification",
        train_set_size=n,
        save_dir=str(task.out / "trak"),
        device="cpu",
        projector=projector,
        proj_dim=dimensions,
        use_half_precision=False,
    )
    for i, module in enumerate(modules):
        traker.load_checkpoint(module.state_dict(), model_id=i)
        for batch in task.loader("train", 500):
            traker.featurize(batch=batch, num_samples=len(batch[0]))
    traker.finalize_features()
    for i, module in enumerate(modules):
        traker.start_scoring_checkpoint("query", module.state_dict(), i, len(task.query_labels))
        for batch in task.loader("query"):
            traker.score(batch=batch, num_samples=len(batch[0]))
    traker.finalize_scores(exp_name="query")
    return task.out / "trak" / "scores" / "query.mmap"


def kronfluence(task: Task, damping: float | None) -> Path:
    # Its examples for cifar and uci: EK-FAC, cross-entropy summed for training, cross-entropy as measurement.
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task as KronfluenceTask

    class Classification(KronfluenceTask):
        def compute_train_loss(self, batch, model, sample=False):
            inputs, labels = batch
            logits = model(inputs)
            if sample:
                labels = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            return cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    model = prepare_model(trained(str(task.folder), 1)[0], Classification())
    analyzer = Analyzer("query", model, Classification(), cpu=True, output_dir=str(task.out))
    analyzer.fit_all_factors(
        "ekfac", task.dataset("train"), per_device_batch_size=100, overwrite_output_dir=True
    )
    analyzer.compute_pairwise_scores(
        scores_name="pairwise",
        factors_name="ekfac",
        score_args=ScoreArguments(damping_factor=damping),
        query_dataset=task.dataset("query"),
        train_dataset=task.dataset("train"),
        per_device_query_batch_size=100,
        per_device_train_batch_size=100,
        overwrite_output_dir=True,
    )
    return next(task.out.rglob("pairwise_scores.safetensors"))


def captum_tracin(task: Task) -> Path:
    # Its tutorial: TracInCPFast on the last layer, over checkpoints.
    from captum.influence import TracInCPFast

    model = trained(str(task.folder), 1)[0]
    tracin = TracInCPFast(
        model=model,
        final_fc_layer=model[-1],
        train_dataset=task.dataset("train"),
        checkpoints=[str(task.folder / f"network-{i}.pt") for i in range(5)],
        checkpoints_load_func=lambda model, path: model.load_state_dict(torch.load(path)) and 1.0,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="sum"),
        batch_size=100,
    )
    scores = tracin.influence((task.query_inputs, task.query_labels))
    torch.save(scores, task.out / "scores.pt")
    return task.out / "scores.pt"


def captum_arnoldi(task: Task) -> Path:
    # Its tutorial: ArnoldiInfluenceFunction, projections of 50 dimensions out of 200.
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction

    arnoldi = ArnoldiInfluenceFunction(
        model=trained(str(task.folder), 1)[0],
        train_dataset=task.dataset("train"),
        checkpoint=str(task.folder / "network-0.pt"),
        checkpoints_load_func=lambda model, path: model.load_state_dict(torch.load(path)) and 1.0,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="none"),
        batch_size=100,
        projection_dim=50,
        arnoldi_dim=200,
    )
    scores = arnoldi.influence((task.query_inputs, task.query_labels))
    torch.save(scores, task.out / "scores.pt")
    return task.out / "scores.pt"


def dattri_cg(task: Task) -> Path:
    # Its pretrained_benchmark/influence_function_lds.py.
    from dattri.algorithm.influence_function import IFAttributorCG
    from dattri.task import AttributionTask

    model = trained(str(task.folder), 1)[0]

    def loss(weights, data):
        return cross_entropy(torch.func.functional_call(model, weights, data[0]), data[1].long())

    asked = AttributionTask(model=model, loss_func=loss, checkpoints=model.state_dict())
    attributor = IFAttributorCG(task=asked, device="cpu", regularization=5e-3, max_iter=10)
    attributor.cache(task.loader("train", len(task.train_labels)))
    with torch.no_grad():
        scores = attributor.attribute(task.loader("train", 500), task.loader("query", 500))
    torch.save(scores, task.out / "scores.pt")
    return task.out / "scores.pt"


def dattri_trak(task: Task, count: int) -> Path:
    # Its experiments/benchmark_result.py and pretrained_benchmark/trak_loo.py.
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    modules = trained(str(task.folder), count)

    def loss(weights, data):
        logits = torch.func.functional_call(modules[0], weights, data[0].unsqueeze(0))
        return cross_entropy(logits, data[1].unsqueeze(0))

    def margin(weights, data):
        logp = -loss(weights, data)
        return logp - torch.log(1 - torch.exp(logp))

    def probability(weights, data):
        return torch.exp(-loss(weights, data))

    states = [module.state_dict() for module in modules]
    asked = AttributionTask(model=modules[0], loss_func=margin, checkpoints=states)
    attributor = TRAKAttributor(
        task=asked,
        correct_probability_func=probability,
        device="cpu",
        projector_kwargs={"proj_dim": 512, "device": "cpu"},
    )
    with torch.no_grad():
        attributor.cache(task.loader("train", 500))
        scores = attributor.attribute(task.loader("query", 500))
    torch.save(scores, task.out / "scores.pt")
    return task.out / "scores.pt"


METHODS = {
    **{
        f"trak-{count}": Method(partial(trak, count=count), "TRAK, 512 dimensions", "trak", "traker", count)
        for count in (1, 5)
    },
    "trak-5-fifth": Method(partial(trak, count=5, share=0.2), "TRAK, n / 5 dimensions", "trak", "traker", 5),
    **{
        f"kronfluence{name}": Method(
            partial(kronfluence, damping=damping), f"EK-FAC, {label}", "kronfluence", "kronfluence", 1
        )
        for name, damping, label in (
            ("", 1e-8, "damping by default"),
            ("-heuristic", None, "damping by its heuristic"),
        )
    },
    "captum-tracin": Method(captum_tracin, "TracInCPFast, last layer", "captum", "captum", 5),
    "captum-arnoldi": Method(captum_arnoldi, "Arnoldi influence", "captum", "captum", 1),
    "dattri-cg": Method(dattri_cg, "conjugate gradients", "dattri", "dattri", 1),
    **{
        f"dattri-trak-{count}": Method(partial(dattri_trak, count=count), "TRAK", "dattri", "dattri", count)
        for count in (1, 5)
    },
}


if __name__ == "__main__":
    main(METHODS)
