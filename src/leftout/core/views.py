"""Is this tensor some rows of that one? What is known of a batch is known of its blocks."""

from torch import Tensor


def rows_within(part: Tensor, whole: Tensor) -> slice | None:
    """Return which consecutive rows of `whole` a tensor is a view of; None if it is none."""
    same = (
        part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        and part.dtype == whole.dtype
        and part.device == whole.device
        and part.shape[1:] == whole.shape[1:]
        and part.stride() == whole.stride()
        and part.ndim > 0
    )
    if not same or not whole.numel() or not whole.stride(0):
        return None
    apart = int(part.storage_offset()) - int(whole.storage_offset())
    first, rest = divmod(apart, int(whole.stride(0)))
    if rest or first < 0 or first + len(part) > len(whole):
        return None
    return slice(first, first + len(part))
