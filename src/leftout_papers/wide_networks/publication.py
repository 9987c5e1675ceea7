"""The exhibits of the review, in its order, and how its ambiguities are resolved here."""

from leftout_papers.exhibit import Exhibit, Publication
from leftout_papers.wide_networks import (
    competition,
    conservation,
    critical_rate,
    ensembles,
    errors,
    gaussian,
    learnability,
    networks,
    width,
)

REVIEW = Publication(
    name="review-wide-networks-and-learnability",
    title="A review of Lee et al. 2019 and Simon et al. 2021",
    authors="McKinzie",
    exhibits=(
        Exhibit("theorem2.1", "Network against its linearisation, by width", "simulated", 5.0, width.sweep),
        Exhibit(
            "critical-rate",
            "Critical learning rate, predicted and seen",
            "simulated",
            3.0,
            critical_rate.rates,
        ),
        Exhibit(
            "neal", "Random networks are Gaussian processes", "simulated", 1.0, gaussian.simulate_networks
        ),
        Exhibit(
            "ensemble",
            "Mean, variance and spread of influence of many trained networks",
            "simulated",
            1.0,
            ensembles.simulate_ensembles,
        ),
        Exhibit(
            "learnability",
            "Learnability predicted from eigenvalues and measured",
            "simulated",
            0.5,
            learnability.simulate_learnability,
        ),
        Exhibit(
            "networks",
            "Learnability of trained networks from width 20 up",
            "simulated",
            5.0,
            networks.simulate_networks,
        ),
        Exhibit(
            "conservation",
            "No free lunch: learnabilities sum to n",
            "simulated",
            2.0,
            conservation.simulate_conservation,
        ),
        Exhibit(
            "errors",
            "Test and training error and covariance of what is learned",
            "simulated",
            0.5,
            errors.simulate_errors,
        ),
        Exhibit("competition", "Modes compete to be learned", "simulated", 0.5, competition.simulate_modes),
    ),
    readings=(
        "Lemma 1 (e) and learnabilities in [0, 1] hold of eigenfunctions, not of every f as printed: of "
        "other functions one example more may well teach less.",
        "Learnabilities and errors are over the whole domain, examples included, as the definition in eq. "
        "129 has it.",
        "Networks have the initial function subtracted; losses are sums, ½ Σ (f − y)².",
    ),
)
