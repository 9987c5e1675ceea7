"""How many wrong labels of CIFAR-10 are missed on pixels, and how many on features of a pretrained network?

    python benchmarks/embeddings.py          1,500 images, 10 % of the labels flipped, three seeds

Needs `cifar10.zip` and the pretrained ResNet-20 of the shared data. The network was trained on the training
images, under their right labels; so the test images, which it never saw, are measured beside them. Features
are the 64 numbers before its last layer. Kernel, scaling and ridge are the defaults of `leftout audit`.

A flip is missed where its label is not doubted (`missed`); `never_contradicted` counts those that
leave-one-out does not contradict at all, by a margin of at least 0. `wrong_doubts` is the share of right
labels that are doubted.
"""

import torch
from measure import data_folder, record
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

import leftout as lo
from leftout.curation.mislabelled import find_mislabelled
from leftout.data.planted import flip_labels
from leftout.kernels.wide.default import DEFAULT_KERNEL, DEFAULT_NORMALISE
from leftout_papers.smooth_information.networks import ResNet20

IMAGES, QUERIES, SHARE, SEEDS = 1500, 100, 0.1, (0, 1, 2)
MEANS = ("missed", "never_contradicted", "wrong_doubts", "auc", "left_out_accuracy")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(torch.nn.Module):
    """What the last layer of the pretrained network gets, for pixels within 0 … 1."""

    def __init__(self):
        super().__init__()
        weights = load_file(data_folder() / "resnet20-cifar10" / "resnet20.safetensors")
        self.network = ResNet20()
        self.network.load_state_dict(weights, strict=False)
        self.network.linear = torch.nn.Identity()

    def forward(self, pixels):
        mean, deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, DEVIATION))
        return self.network((pixels - mean) / deviation)


def images(split, seed):
    """Return pixels within 0 … 1 and labels of a split."""
    counts = {"n_train": IMAGES + QUERIES, "n_query": IMAGES + QUERIES}
    pair = lo.load(str(data_folder() / "cifar10.zip"), normalise=None, seed=seed, **counts)
    examples = pair[split == "test"]
    return examples.inputs, [examples.classes[label] for label in examples.labels.tolist()]


def measured(pixels, labels, seed, embed):
    """Return what is missed by one kernel for one draw of images and flips."""
    train, _ = lo.load(
        (pixels, labels),
        n_train=IMAGES,
        n_query=QUERIES,
        pictures=True,
        normalise=DEFAULT_NORMALISE,
        drop_constant=True,
        seed=seed,
        embed=embed,
    )
    planted = flip_labels(train, SHARE, generator=torch.Generator().manual_seed(seed))
    fitted = lo.fit(DEFAULT_KERNEL, planted.examples, rule=lo.Ridge("auto"))
    found = find_mislabelled(fitted)
    flipped = torch.zeros(len(train), dtype=torch.bool)
    flipped[planted.rows] = True
    doubted = torch.zeros_like(flipped)
    doubted[[suspect.row for suspect in found.suspects]] = True
    count = int(flipped.sum())
    left_out = lo.out_of_sample(fitted)
    return {
        "inputs": list(train.inputs.shape[1:]),
        "ridge": fitted.rule.ridge,
        "flipped": count,
        "missed": int((flipped & ~doubted).sum()) / count,
        "never_contradicted": int((flipped & (found.margins >= 0)).sum()) / count,
        "wrong_doubts": int((doubted & ~flipped).sum()) / int((~flipped).sum()),
        "auc": float(roc_auc_score(flipped.numpy(), -found.margins.numpy())),
        "left_out_accuracy": float((train.encoding.decode(left_out) == planted.truth).double().mean()),
    }


def main():
    """Measure pixels and features, images that the network was trained on and others."""
    result = {}
    for split in ("train", "test"):
        for seed in SEEDS:
            pixels, labels = images(split, seed)
            for name, embed in (("pixels", None), ("resnet-20", Features())):
                one = measured(pixels, labels, seed, embed)
                result.setdefault(f"{split} images, {name}", []).append({"seed": seed, **one})
    means = {
        name: {key: sum(run[key] for run in runs) / len(runs) for key in MEANS}
        for name, runs in result.items()
    }
    record("embeddings", {"means": means, "runs": result})


if __name__ == "__main__":
    main()
