"""The papers whose exhibits can be run again."""

from leftout.app.papers.information.publication import INFORMATION
from leftout.app.papers.label_aware.publication import LABEL_AWARE
from leftout.app.papers.rethinking.publication import RETHINKING
from leftout.app.papers.review.publication import REVIEW

PUBLICATIONS = (RETHINKING, INFORMATION, REVIEW, LABEL_AWARE)
