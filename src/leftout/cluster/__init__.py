"""The same answers from the workers of a cluster, where one machine has not the memory."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.cluster.distributed_influence import leave_one_out as leave_one_out
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
