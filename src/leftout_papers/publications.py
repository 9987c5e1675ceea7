"""All publications whose exhibits `leftout papers` can run."""

from leftout_papers.label_aware.publication import LABEL_AWARE
from leftout_papers.rethinking_influence.publication import RETHINKING
from leftout_papers.smooth_information.publication import INFORMATION
from leftout_papers.wide_networks.publication import REVIEW

PUBLICATIONS = (RETHINKING, INFORMATION, REVIEW, LABEL_AWARE)
