"""What is in the paper, in its own order, and how its open questions are settled here."""

from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.rethinking_influence import (
    clusters,
    deciles,
    density,
    dynamics,
    extremes,
    regularisation,
    retraining,
    width,
)

RETHINKING = Publication(
    name="rethinking-influence-functions",
    title="Rethinking Influence Functions of Neural Networks in the Over-parameterized Regime",
    authors="Zhang and Zhang, AAAI 2022",
    exhibits=(
        Exhibit("table1", "Actual against predicted influence, by width", "binary", 15.0, retraining.table),
        Exhibit(
            "figure1", "Actual against predicted influence of 40 examples", "binary", 5.0, retraining.binary
        ),
        Exhibit("theorem1", "Network against NTK predictor, by width", "binary", 3.0, width.binary),
        Exhibit(
            "proposition1",
            "Classical influence of networks against its limit, by width",
            "binary",
            3.0,
            width.classical,
        ),
        Exhibit(
            "figure2",
            "Error of the classical influence function against ridge",
            "binary",
            2.0,
            regularisation.binary,
        ),
        Exhibit("figure3", "Its error against the density of an example", "binary", 1.0, density.binary),
        Exhibit("figure4", "Most helpful, harmful and uninformative images", "binary", 0.5, extremes.binary),
        Exhibit("figure5", "Complexity by influence", "binary", 0.5, deciles.binary),
        Exhibit("figure6", "Most influential images during training", "binary", 1.0, dynamics.images),
        Exhibit("figure7", "Clean and noisy examples during training", "binary", 4.0, dynamics.shares),
        Exhibit(
            "figure8", "Actual against predicted influence, ten classes", "classes", 8.0, retraining.classes
        ),
        Exhibit(
            "figure9",
            "Error of the classical influence function against ridge, ten classes",
            "classes",
            2.0,
            regularisation.classes,
        ),
        Exhibit(
            "figure10",
            "Its error against the density of an example, ten classes",
            "classes",
            1.0,
            density.classes,
        ),
        Exhibit("figure11", "Complexity by influence, ten classes", "classes", 0.5, deciles.classes),
        Exhibit(
            "figure12",
            "Error on clusters below the bound of theorem 4",
            "simulated",
            0.5,
            clusters.simulate_clusters,
        ),
    ),
    readings=(
        "Losses are sums, as in eq. 3; eq. 20 is that without ridge and with time t·n/2.",
        "Influence is the loss without an example minus the loss with it: positive = it helped.",
        "The first two classes are 7 and 9, cars and planes, 2500 + 2500 images to train and 500 + 500 "
        "to ask about.",
        "Complexity (eq. 19) is that of the interpolant: K without ridge.",
    ),
)
