"""Checks of a page's parameters, each a function of a name and a value; called with bounds alone, it makes one."""

import functools
import math
import operator
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable)
T = TypeVar("T")
Check = Callable[[str, Any], Any]  # name and value in, the value as the page is to have it out

HOLDS: dict[str, Callable[[Any, Any], bool]] = {"above": operator.gt, "at_least": operator.ge, "at_most": operator.le}


def python(value: Any) -> Any:
    """What NumPy's and PyTorch's numbers and arrays are in Python; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, type) else value


class Refused(ValueError):
    """A value that a page cannot take: a notebook shows the one line that says why."""

    def _render_traceback_(self) -> list[str]:
        return [f"ValueError: {self}"]


def _check(check: F) -> F:
    """Have a check that is called with bounds alone return what checks a name and a value within these.

    NumPy's numbers and arrays are taken as Python's numbers and lists.
    """

    @functools.wraps(check)
    def call(*name_and_value: Any, **bounds: Any) -> Any:
        called = name_and_value or "name" in bounds
        return check(*map(python, name_and_value), **bounds) if called else functools.partial(call, **bounds)

    return call  # type: ignore[return-value]


@_check
def integer(name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None) -> int:
    """Return `value` as an integer within its bounds; 1e6, a whole number written as a float, is one.

    Raises:
        ValueError: `value` is no whole number (True and False are none), or lies outside the bounds.
    """
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(_bounded(name, value, "an integer", whole, at_least=at_least, at_most=at_most))


@_check
def integers(name: str, values: Any, *, at_least: int | None = None, at_most: int | None = None) -> list[int]:
    """Return a list of integers, each as `integer` would have it.

    Raises:
        ValueError: `values` is no list, is empty, holds a value twice, or one that `integer` refuses.
    """
    return _each(name, values, "integers", functools.partial(integer, at_least=at_least, at_most=at_most))


@_check
def number(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """Return `value` as a finite number within its bounds.

    Raises:
        ValueError: `value` is no number (True and False are none), is infinite or NaN, or lies outside the bounds.
    """
    real = isinstance(value, int | float) and math.isfinite(value)
    return float(_bounded(name, value, "a number", real, above=above, at_least=at_least))


@_check
def numbers(name: str, values: Any, *, above: float | None = None, at_least: float | None = None) -> list[float]:
    """Return a list of numbers, each as `number` would have it.

    Raises:
        ValueError: `values` is no list, is empty, holds a value twice, or one that `number` refuses.
    """
    return _each(name, values, "numbers", functools.partial(number, above=above, at_least=at_least))


@_check
def choice(name: str, value: Any, among: Iterable[str]) -> str:
    """Return `value`, one of the names in `among`.

    Raises:
        ValueError: it is none of them.
    """
    names = list(among)
    if not isinstance(value, str) or value not in names:
        raise _refusal(name, value, "one of " + ", ".join(names))
    return value


@_check
def choices(name: str, values: Any, among: Iterable[str]) -> list[str]:
    """Return a list of names, each one of those in `among`.

    Raises:
        ValueError: `values` is no list, is empty, holds a name twice, or one that is not in `among`.
    """
    names = list(among)
    return _each(name, values, "names among " + ", ".join(names), functools.partial(choice, among=names))


@_check
def flag(name: str, value: Any) -> bool:
    """Return `value`, true or false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        word = str(value).lower()
        remedy = f"; papermill takes it as -y '{name}: {word}'" if word in ("true", "false") else ""
        raise _refusal(name, value, "true or false", remedy)
    return value


def device(name: str, value: Any) -> str:
    """Return where a page is to train: "auto", "cpu", "cuda", or one GPU by its number, such as "cuda:1".

    Raises:
        ValueError: `value` is none of these.
    """
    numbered = isinstance(value, str) and value.startswith("cuda:") and value.removeprefix("cuda:").isdecimal()
    return value if numbered else choice(name, value, ["auto", "cpu", "cuda", "cuda:0"])


def unknown(name: str, value: str, known: Iterable[str]) -> str:
    """Return the sentence that refuses a parameter.

    Args:
        name: which the page does not have.
        value: as it was written.
        known: the names of those that it has.
    """
    names = list(known)
    near = "".join(f"; did you mean {other}?" for other in get_close_matches(name, names, n=1))
    return f"{name} is no parameter of this page, which has {', '.join(names) or 'none'}; got {value}{near}"


def _bounded(name: str, value: Any, kind: str, fits: bool, **limits: float | None) -> Any:
    """A value that `fits` its kind, refused if it is True or False, or outside its limits."""
    bounds = {bound: limit for bound, limit in limits.items() if limit is not None}
    if isinstance(value, bool) or not fits or not all(HOLDS[bound](value, limit) for bound, limit in bounds.items()):
        said = " and ".join(f"{bound.replace('_', ' ')} {limit}" for bound, limit in bounds.items())
        word = isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value)  # what YAML takes 1e-4 for
        remedy = f"; YAML reads a number only with a dot: {re.sub('[eE]', '.0e', value)}" if word else ""
        raise _refusal(name, value, f"{kind} {said}".rstrip(), remedy)
    return value


def _each(name: str, values: Any, kind: str, check: Callable[[str, Any], T]) -> list[T]:
    allowed = f"a list of {kind}"
    if not isinstance(values, list | tuple):
        inside = str(values).strip().strip("[()]")
        raise _refusal(name, values, allowed, f'; papermill takes a list as -y "{name}: [{inside}]"')
    if not values:
        raise _refusal(name, values, f"{allowed}, at least one")
    checked = [check(f"{name}[{i}]", value) for i, value in enumerate(values)]
    if len(set(checked)) < len(checked):
        raise _refusal(name, values, f"{allowed}, each once")
    return checked


def _refusal(name: str, value: Any, allowed: str, remedy: str = "") -> Refused:
    return Refused(f"{name} must be {allowed}, got {value!r}{remedy}")
