"""The common style of all pictures: colours, fonts and a grid of axes."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, BLUE, RED, GREEN, ORANGE = ("#1f2933", "#9aa5b1", "#2563a8", "#c0392b", "#2e8b57", "#d97706")

STYLE: Any = {  # applied by `rerun` while an exhibit is drawn
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "leftout",
}


def panels(
    columns: int, rows: int = 1, *, width: float = 4.2, height: float = 3.3, **more: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its (rows, columns) of axes."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def show_image(axes: Axes, image: np.ndarray | None, title: str = "") -> None:
    """Draw an image without axes; None leaves the place empty."""
    axes.set_axis_off()
    if image is not None:
        axes.imshow(image, cmap="gray_r" if image.ndim == 2 else None, interpolation="nearest")
    if title:
        axes.set_title(title, fontsize=8, loc="center")
