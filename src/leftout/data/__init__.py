"""Examples, where they come from, and how they are prepared."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.data.domains import Circle as Circle
    from leftout.data.domains import Hypercube as Hypercube
    from leftout.data.domains import Sphere as Sphere
    from leftout.data.domains import gegenbauer as gegenbauer
    from leftout.data.encoding import encoding_of_classes as encoding_of_classes
    from leftout.data.encoding import encoding_of_numbers as encoding_of_numbers
    from leftout.data.mixtures import mixture as mixture
    from leftout.data.planted import flip_labels as flip_labels
    from leftout.data.planted import thin_class as thin_class
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
