"""Signatures and docstrings on the reference's pages are the same at every build, and read as they are written."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "_ext"))
from rnnbook.docstrings import leave_out_checks, mark_up


@pytest.mark.parametrize(
    ("signature", "shown"),
    [
        ("(n: ~typing.Annotated[int, <function whole at 0x7f07>] = 3)", "(n: int = 3)"),
        ("(stop: ~typing.Annotated[str | ~a.Stop, <function as_stop at 0x7f07>])", "(stop: str | ~a.Stop)"),
        ("(x: ~typing.Annotated[tuple[~a.B, ...], <function f at 0x7f>], y: int)", "(x: tuple[~a.B, ...], y: int)"),
        ("(x: ~typing.Annotated[int, <function <lambda> at 0x7f07>], *, y: int)", "(x: int, *, y: int)"),
    ],
)
def test_a_signature_shows_types_and_no_address_of_what_checks_them(signature, shown):
    assert leave_out_checks(None, "class", "a.B", None, None, signature, "")[0] == shown


def test_a_letter_with_a_full_stop_begins_no_list():
    lines = ["units: hidden units, N.", "N. And so on, e.g. `a.b`."]
    mark_up(None, "class", "a.B", None, None, lines)
    assert lines == ["units: hidden units, N\\.", "N\\. And so on, e.g\\. ``a.b``."]
