"""The exhibits of the paper, in its order, and how its ambiguities are resolved here."""

from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.smooth_information import (
    adversarial,
    dependence,
    informative,
    mislabelled,
    sources,
    subclass,
    summarise,
    table,
    toy,
)

INFORMATION = Publication(
    name="smooth-unique-information",
    title="Estimating Informativeness of Samples with Smooth Unique Information",
    authors="Harutyunyan, Achille, Paolini, Majumder, Ravichandran, Bhotika and Soatto, ICLR 2021",
    exhibits=(
        Exhibit(
            "table1",
            "Linearised network and influence functions against training again",
            "binary",
            10.0,
            table.binary,
        ),
        Exhibit("figure1", "Informative examples, five classes", "classes", 2.0, informative.classes),
        Exhibit("figure2a", "Which source is more informative", "classes", 5.0, sources.classes),
        Exhibit("figure2b", "Mislabelled examples, five classes", "classes", 2.0, mislabelled.classes),
        Exhibit("figure2c", "Data summarisation", "binary", 5.0, summarise.binary),
        Exhibit("figure3", "Unique information below its bound", "simulated", 0.5, toy.simulate_regression),
        Exhibit("figure4", "Informative examples, two classes", "binary", 1.0, informative.binary),
        Exhibit(
            "figure5",
            "Dependence on architecture, initial weights and training length",
            "binary",
            3.0,
            dependence.binary,
        ),
        Exhibit(
            "figure7b",
            "Data summarisation by one network for another",
            "binary",
            11.0,
            summarise.binary_two_layers,
        ),
        Exhibit("figure8", "Mislabelled examples, two classes", "binary", 1.0, mislabelled.binary),
        Exhibit("figure9", "Under-sampled sub-class", "binary", 3.0, subclass.binary),
        Exhibit("figure10", "Adversarial examples", "binary", 3.0, adversarial.binary),
    ),
    readings=(
        "Losses are means, rate and number of steps those of full-batch gradient descent, and leaving "
        "one example out makes it the mean of the others, as the paper's programs have it; the text "
        "writes sums.",
        "F-SI is ½ the mean over queries of the squared change of the outputs, with the square that "
        "eq. 16 lacks and the ½ that the programs leave out; σ = 1.",
        "Eqs. 2 and 3 hold of the mean over examples z_i, not of each of them: figure 3 shows both.",
        "Two classes are one output, 0 or 1.",
        "Queries are those of the data set's own test set, of another part of it for the digits.",
        "Not here: A.7 (film reviews), figures 6 and 7a (pretrained networks that there are none of).",
    ),
)
