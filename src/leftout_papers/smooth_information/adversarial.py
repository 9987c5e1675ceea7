"""Figure 10: do adversarial examples carry more information than the pictures they were made from?

A pretrained network is trained further; a tenth of the examples is moved by ε along the sign of the
gradient of the loss, so that the network misclassifies them (FGSM). The information of every training
example is then measured for a second pretrained network, with another last layer, linearised.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from matplotlib.figure import Figure
from torch import Tensor, nn

import leftout as lo
from leftout_papers.drawing import panels, show_image
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import pretrained_network
from leftout_papers.smooth_information.scores import (
    DIGITS,
    RESNET,
    auc,
    draw_groups,
    more_often,
    more_on_average,
    ratio,
    score_network,
)
from leftout_papers.smooth_information.task import Counts, pair, pixels_of, standard

SHARE = 0.1
SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""ε, in units of black to white: the paper's, and larger ones that are tried where it fools too few."""

COUNTS: Counts = {Size.QUICK: (40, 30), Size.USUAL: (300, 300), Size.PAPER: (1000, 1000)}
STEPS = {Size.QUICK: 30, Size.USUAL: 200, Size.PAPER: 1000}
"""Steps of training further."""

SHOWN = 4


def binary(material: Material) -> Outcome:
    """Run figure 10."""
    examples, query = pair(material, COUNTS)
    schedule = RESNET if material.name == "cifar10" else DIGITS
    trained = lo.train(
        pretrained_network(material, seed=material.seed),
        examples,
        rule=schedule.rule,
        steps=STEPS[material.size],
        tolerance=None,
        device=material.device,
        memory=material.memory,
    )
    size, moved, chosen = _smallest_attack(material, trained.module, examples)
    changed = examples.inputs.clone()
    changed[torch.from_numpy(chosen)] = moved[torch.from_numpy(chosen)]
    attacked = replace(examples, inputs=changed)
    fresh = pretrained_network(material, seed=material.seed + 1)
    scores, right = score_network(material, fresh, attacked, query, schedule)
    times, area = ratio(scores, chosen), auc(scores, chosen)
    before, _ = score_network(material, fresh, examples, query, schedule)
    itself = float(np.median(scores[chosen] / before[chosen]))
    rows = (
        Row(
            f"mean information of adversarial examples ({chosen.sum()} of {len(examples)}) over that of "
            "the others",
            "more on average (drawn only)",
            f"{times:.2f}",
            more_on_average(scores, chosen),
        ),
        Row(
            "chance that an adversarial example carries more (AUC)",
            "can be used to detect",
            f"{area:.3f}",
            more_often(scores, chosen),
        ),
        Row(
            "information of an adversarial example over that of its own picture, median",
            "not printed",
            f"{itself:.2f}",
        ),
        Row("ε that makes a tenth err", "0.01", f"{size:g}"),
    )
    record = {
        "examples": len(examples),
        "queries": len(query),
        "adversarial": np.flatnonzero(chosen).tolist(),
        "epsilon": size,
        "ratio_of_means": times,
        "auc": area,
        "median_over_own_picture": itself,
        "query_accuracy": right,
        "rate": schedule.rate,
        "steps": schedule.steps,
        "information": scores.tolist(),
        "information_before": before.tolist(),
    }
    return Outcome(rows, record, _figure(examples, attacked, scores, chosen), _notes(material, size))


def sign_attack(module: nn.Module, examples: lo.Examples, size: float) -> Float64[Tensor, "n c h w"]:
    """Return inputs with every pixel moved by `size` so that the loss rises, within black and white."""
    pixels = pixels_of(examples.inputs)
    like = next(module.parameters())
    leaf = pixels.to(like, copy=True).requires_grad_()
    loss = (module(standard(leaf)) - examples.targets.to(like)).square().sum() / 2
    steep = torch.autograd.grad(loss, leaf)[0].to(pixels)
    return standard((pixels + size * steep.sign()).clamp(0, 1))


def _smallest_attack(
    material: Material, module: nn.Module, examples: lo.Examples
) -> tuple[float, Tensor, Bool[np.ndarray, " n"]]:
    """Return the first ε that fools a tenth of the examples, all inputs moved by it, and that tenth."""
    assert examples.labels is not None
    wanted = round(SHARE * len(examples))
    right = _predicted_labels(module, examples.inputs, examples) == examples.labels
    for size in SIZES:
        moved = sign_attack(module, examples, size)
        fooled = right & (_predicted_labels(module, moved, examples) != examples.labels)
        if int(fooled.sum()) >= wanted or size == SIZES[-1]:
            break
    rows = fooled.nonzero().flatten()
    order = torch.randperm(len(rows), generator=material.generator(10))[:wanted]
    chosen = np.zeros(len(examples), dtype=bool)
    chosen[rows[order].numpy()] = True
    return size, moved, chosen


def _predicted_labels(module: nn.Module, inputs: Tensor, examples: lo.Examples) -> Tensor:
    like = next(module.parameters())
    with torch.no_grad():
        outputs = module(inputs.to(like)).double().cpu()
    return examples.encoding.decode(outputs)


def _notes(material: Material, size: float) -> tuple[str, ...]:
    notes = ["ε is in units of black to white, which the paper does not say of its own."]
    if material.name == "cifar10":
        notes.append("CIFAR-10's cats and dogs for Kaggle's, a ResNet-20 of CIFAR-10 for one of ImageNet.")
    else:
        notes.append(
            "4 and 9 for cats and dogs, four convolutional layers that learned the other digits for a "
            "ResNet-18 of ImageNet."
        )
    if size != SIZES[0]:
        notes.append(f"The paper's ε of {SIZES[0]} makes less than a tenth err here.")
    return tuple(notes)


def _figure(
    examples: lo.Examples,
    attacked: lo.Examples,
    scores: Float64[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " n"],
) -> Figure:
    figure, _ = panels(1, width=8.4, height=3.6)
    figure.clear()
    grid = figure.add_gridspec(2, 6 + SHOWN)
    axes = figure.add_subplot(grid[:, :6])
    draw_groups(axes, {"as it is": scores[~chosen], "adversarial": scores[chosen]})
    for place, row in enumerate(np.flatnonzero(chosen)[:SHOWN]):
        for line, pictures in enumerate((examples, attacked)):
            picture = pixels_of(pictures.inputs[row : row + 1])[0].permute(1, 2, 0).numpy()
            picture = picture[..., 0] if picture.shape[-1] == 1 else picture
            title = ("as it is", "adversarial")[line] if place == 0 else ""
            show_image(figure.add_subplot(grid[line, 6 + place]), picture, title)
    return figure
