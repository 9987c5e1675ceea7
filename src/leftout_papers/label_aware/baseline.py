"""The convolutional network whose kernel the CNTK is, at a finite width, trained as the paper trains it.

Two classes: mean squares to 0 and 1, threshold ½; more: cross-entropy. Adam at 3e-4, batches of 128 (32 where
there are few images: as many steps count as epochs do).
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from leftout_papers.label_aware.draws import Draw
from leftout_papers.smooth_information.networks import build_with_seed

RATE = 3e-4
FEW = 2000
"""Images below which batches are of 32."""

FIRST = 16
"""Channels of the first layer."""


def network(
    shape: tuple[int, ...], *, outputs: int, widths: tuple[int, int, int], seed: int
) -> nn.Sequential:
    """Return the eight layers: a convolution, three groups of twice ReLU and convolution, a readout.

    Args:
        widths: channels of the groups; the second and the third begin with stride 2.
    """

    def build() -> nn.Sequential:
        ins, stride = FIRST, 1
        layers: list[nn.Module] = [nn.Conv2d(shape[0], FIRST, 3, padding=1)]
        for width in widths:
            layers += [nn.ReLU(), nn.Conv2d(ins, width, 3, stride=stride, padding=1)]
            layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)]
            ins, stride = width, 2
        features = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            count = features(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(features, nn.Linear(count, outputs))

    return build_with_seed(build, seed)


def trained_accuracy(
    draw: Draw, *, widths: tuple[int, int, int], epochs: int, steps: int = 0, seed: int
) -> float:
    """Return a trained network's accuracy on the test images of a draw, in percent.

    Args:
        steps: the least, where epochs of few images would not train it.
    """
    images, queries = (_channels(one).float() for one in (draw.images, draw.queries))
    classes = int(draw.labels.max()) + 1
    outputs = 1 if classes == 2 else classes
    module = network(tuple(images.shape[1:]), outputs=outputs, widths=widths, seed=seed)
    module.to(images.device)
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    generator = Generator().manual_seed(seed)
    batch = 128 if len(images) >= FEW else 32
    for _ in range(max(epochs, -(-steps // -(-len(images) // batch)))):
        for rows in torch.split(torch.randperm(len(images), generator=generator), batch):
            optimiser.zero_grad()
            torch.autograd.backward(_loss(module(images[rows]), draw.labels[rows]))
            optimiser.step()
    with torch.no_grad():
        said = torch.cat([module(part) for part in torch.split(queries, 256)])
    found = (said[:, 0] >= 0.5).long() if outputs == 1 else said.argmax(1)
    return 100 * float((found == draw.query_labels).double().mean())


def _loss(outputs: Float[Tensor, "b k"], labels: Tensor) -> Tensor:
    if outputs.shape[1] == 1:
        return (outputs[:, 0] - labels).square().mean()
    return nn.functional.cross_entropy(outputs, labels)


def _channels(images: Tensor) -> Float[Tensor, "n c h w"]:
    return images[:, None] if images.ndim == 3 else images
