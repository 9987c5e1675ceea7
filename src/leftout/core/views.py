"""Recognise a tensor that is a view of rows of another: cached results of a batch serve its blocks."""

from torch import Tensor


def rows_within(view: Tensor, base: Tensor) -> slice | None:
    """Return which consecutive rows of `base` a tensor is a view of; None if it is not."""
    same = (
        view.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()
        and view.dtype == base.dtype
        and view.device == base.device
        and view.shape[1:] == base.shape[1:]
        and view.stride() == base.stride()
        and view.ndim > 0
    )
    if not same or not base.numel() or not base.stride(0):
        return None
    apart = int(view.storage_offset()) - int(base.storage_offset())
    first, rest = divmod(apart, int(base.stride(0)))
    if rest or first < 0 or first + len(view) > len(base):
        return None
    return slice(first, first + len(view))
