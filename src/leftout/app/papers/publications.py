"""The papers whose exhibits can be run again."""

from leftout.app.papers.information.publication import INFORMATION
from leftout.app.papers.rethinking.publication import RETHINKING

PUBLICATIONS = (RETHINKING, INFORMATION)
