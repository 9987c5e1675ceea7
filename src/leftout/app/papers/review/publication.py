"""What the review shows, in its own order, and how its open questions are settled here."""

from leftout.app.papers.exhibit import Publication

REVIEW = Publication(
    name="review-wide-networks-and-learnability",
    title="A review of Lee et al. 2019 and Simon et al. 2021",
    authors="McKinzie",
    exhibits=(),
    readings=(),
)
