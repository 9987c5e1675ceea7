"""What the paper on label-aware kernels shows, in its order, and how open questions are settled here."""

from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.label_aware import all_pairs, elasticity, tables, ten_images, theorem, two_factors

LABEL_AWARE = Publication(
    name="label-aware-ntk",
    title="Label-Aware Neural Tangent Kernel: Toward Better Generalization and Local Elasticity",
    authors="Chen, He & Su",
    exhibits=(
        Exhibit(
            "theorem2.1",
            "Kernels of trained networks against the hierarchy, by width",
            "simulated",
            6.0,
            theorem.simulate_networks,
        ),
        Exhibit(
            "ten-images",
            "The kernel of eq. 5 within classes and between them",
            "binary",
            0.2,
            ten_images.compare_ten_images,
        ),
        Exhibit(
            "table1",
            "Accuracy of label-blind and label-aware kernels and a network, two classes",
            "binary",
            13.0,
            tables.pairs,
        ),
        Exhibit(
            "table2",
            "Accuracy of label-blind and label-aware kernels and a network, ten classes",
            "classes",
            9.0,
            tables.classes,
        ),
        Exhibit(
            "table3",
            "Local elasticity of networks and kernels, and figure 1(a)",
            "binary",
            60.0,
            elasticity.pairs,
        ),
        Exhibit(
            "elasticity45",
            "Local elasticity before and after training, all 45 binary tasks",
            "classes",
            13.0,
            all_pairs.classes,
        ),
        Exhibit(
            "figure1",
            "Local elasticity in two label systems, figure 1(b, c)",
            "binary",
            10.0,
            two_factors.systems,
        ),
    ),
)
