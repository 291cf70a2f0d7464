"""Arguments are what a public function says that it takes, or they are refused by name."""

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxtyping import jaxtyped
from torch import Tensor

F = TypeVar("F", bound=Callable)


def whole(name: str, value: object, *, at_least: int = 1, at_most: int = 2**31 - 1) -> None:
    """Refuse what is no integer within these bounds.

    Raises:
        ValueError: it is none; True and False are none either.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        kind = "a positive integer" if at_least == 1 else f"an integer, at least {at_least}"
        raise ValueError(f"{name} must be {kind}, got {_said(value)}")
    if value > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {value}")


def positive(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> None:
    """Refuse what is no positive, finite number; `zero` and `infinite` let these through.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        fits = False
    else:
        fits = 0 < value < float("inf") or (zero and value == 0) or (infinite and value == float("inf"))
    if not fits:
        kind = "number, at least 0" if zero else "number" if infinite else "positive, finite number"
        kind = f"finite {kind}" if zero else f"positive {kind}" if infinite else kind
        raise ValueError(f"{name} must be a {kind}, got {_said(value)}")


def choice(name: str, value: object, *among: str) -> None:
    """Refuse what is none of these words.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, str) or value not in among:
        words = " or ".join([", ".join(map(repr, among[:-1])), repr(among[-1])])
        raise ValueError(f"{name} must be {words}, got {_said(value)}")


def checked(*but: str) -> Callable[[F], F]:
    """Have a function refuse arguments that are not of the kinds, shapes and dtypes that its signature says.

    Args:
        but: parameters that the function checks itself, with more to say.

    Raises:
        ValueError: at a call; names the parameter, what is allowed and what came.
    """

    def wrap(function: F) -> F:
        signature = inspect.signature(function)

        @functools.cache
        def hints() -> dict[str, Any]:
            return {name: hint for name, hint in get_type_hints(function).items() if name not in but}

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            with jaxtyped("context"):  # an axis has one length in all arguments
                for name, value in signature.bind(*args, **given).arguments.items():
                    if name in hints() and not _fits(value, hints()[name]):
                        raise ValueError(f"{name} must be {_kind(hints()[name])}, got {_said(value)}")
            return function(*args, **given)

        return call  # type: ignore[return-value]

    return wrap


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Seeds from a count (0 upward) or a sequence.

    Raises:
        ValueError: there is none, one is no integer of 0 .. 2^63 - 1, or one comes twice.
    """
    if type(seeds) is int:
        if not 1 <= seeds <= 2**24:
            raise ValueError(
                f"seeds must be a count of at least 1 or a sequence of seeds, at most 2**24, got {_said(seeds)}"
            )
        return list(range(seeds))
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        raise ValueError(f"seeds must be a count of at least 1 or a sequence of seeds, got {_said(seeds)}")
    listed = list(seeds)
    if not listed or any(type(s) is not int or not 0 <= s < 2**63 for s in listed) or len(set(listed)) < len(listed):
        raise ValueError(f"seeds must be different integers from 0 to 2**63 - 1, got {_said(seeds)}")
    return listed


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if isinstance(value, bool) and hint in (int, float):
        return False
    if hint is float:
        return isinstance(value, int | float) and value == value
    if origin is Callable:
        return callable(value)
    if origin is Mapping or origin is dict:
        pairs = isinstance(value, Mapping) and value.items()
        return pairs is not False and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in pairs)
    if origin is Sequence or origin is list:
        listed = isinstance(value, origin) and not isinstance(value, str | bytes)
        return listed and all(_fits(item, parts[0]) for item in value)
    if origin is Iterable:
        return isinstance(value, Iterable) and not isinstance(value, str | bytes)
    return not isinstance(hint, type) or isinstance(value, hint)


def _kind(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_kind, get_args(hint)))
    plain = {int: "an integer", float: "a number", bool: "True or False", str: "a string", type(None): "None"}
    return plain.get(hint) or (hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", ""))


def _said(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.100}"
