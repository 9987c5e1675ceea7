import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from leftout.core.fingerprint import LENGTH, fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_it_is_sixteen_hex_digits() -> None:
    assert len(fingerprint(1)) == LENGTH == 16
    assert set(fingerprint("x")) <= set("0123456789abcdef")


def test_it_is_the_same_on_every_day() -> None:
    # Saved results are found again by it: a change here orphans them.
    assert fingerprint(torch.arange(3.0, dtype=torch.float64), ["a"]) == "89572c8aa5fccd02"


def test_values_shapes_types_and_order_tell_apart() -> None:
    base = torch.arange(6.0, dtype=torch.float64)
    moved = base.clone()
    moved[5] += 1e-15
    parts = [
        (base,),
        (moved,),
        (base.view(2, 3),),
        (base.view(3, 2),),
        (base.float(),),
        (base.long(),),
        (base.flip(0),),
        (base, base),
        (base, "x"),
        ("x", base),
        (),
        ("",),
        (None,),
        ([],),
        ({},),
        ("1",),
        (1,),
        (1.0,),
        ("a", "b"),
        ("ab",),
        (["a", "b"],),
        (True,),
    ]
    prints = [fingerprint(*some) for some in parts]
    assert len(set(prints)) == len(prints)


def test_what_is_equal_is_equal() -> None:
    base = torch.arange(6.0, dtype=torch.float64).view(2, 3)
    assert fingerprint(base) == fingerprint(base.numpy())
    assert fingerprint(base) == fingerprint(base.T.contiguous().T)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(np.asfortranarray(base.numpy())) == fingerprint(base)
    assert fingerprint(base.requires_grad_()) == fingerprint(base.detach())


@given(JSON, JSON)
def test_two_values_have_one_print_only_if_they_are_one(one, other) -> None:
    same = repr(one) == repr(other) or (one == other and str(one) == str(other))
    if same:
        assert fingerprint(one) == fingerprint(other)
    elif one != other:
        assert fingerprint(one) != fingerprint(other)
