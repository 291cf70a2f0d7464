"""Arguments are what a public function says that it takes, or they are refused by name."""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import jaxtyped
from torch import Tensor

F = TypeVar("F", bound=Callable)
T = TypeVar("T")

_SUCH = {  # what to write where one of these is asked for
    "Algorithm": "Algorithm.named('MSGD-CR')",
    "Clip": "Norm(1.0)",
    "Guard": "Shrink()",
    "Init": "SmartTanh()",
    "Loss": "LastSoftmax()",
    "Omega": "Code()",
    "Schedule": "Constant(4.0)",
    "Sigma": "Tanh()",
    "Spec": "Spec(updates=1000)",
    "Task": "TemporalOrder(50)",
}


def whole(name: str, value: object, *, at_least: int = 1, at_most: int = 2**31 - 1) -> int:
    """An integer within these bounds, NumPy's as Python's.

    Raises:
        ValueError: it is none; True and False are none either.
    """
    number = fit(value, int)
    if number is UNFIT or number < at_least:
        kind = "a positive integer" if at_least == 1 else f"an integer, at least {at_least}"
        raise ValueError(f"{name} must be {kind}, got {_said(value)}")
    if number > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {value}")
    return number


def positive(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> float:
    """A positive, finite number as Python's float, without the sign of 0; `zero` and `infinite` let these through.

    Raises:
        ValueError: it is none.
    """
    number = fit(value, float)
    if number is UNFIT or not (0 < number < float("inf") or (zero and number == 0) or (infinite and number > 0)):
        kind = "number, at least 0" if zero else "number" if infinite else "positive, finite number"
        kind = f"finite {kind}" if zero else f"positive {kind}" if infinite else kind
        raise ValueError(f"{name} must be a {kind}, got {_said(value)}")
    return number + 0.0


def among(*words: str) -> Callable[[str, object], str]:
    """What returns one of these words, or refuses what is none of them by name."""

    def chosen(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            allowed = " or ".join([", ".join(map(repr, words[:-1])), repr(words[-1])])
            raise ValueError(f"{name} must be {allowed}, got {_said(value)}")
        return str(value)

    return chosen


Count = Annotated[int, whole]
Size = Annotated[int, functools.partial(whole, at_most=2**14)]
Positive = Annotated[float, positive]
Limit = Annotated[float, functools.partial(positive, infinite=True)]
Weight = Annotated[float, lambda _, value: positive("alpha", value, zero=True)]


@dataclass_transform(frozen_default=True)
def value(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass that settles its fields when it is made."""
    kind.__post_init__ = settle  # type: ignore[attr-defined]
    return dataclass(frozen=True)(kind)


def settle(made: Any) -> None:
    """Check the fields of a frozen dataclass by their annotations, and normalize them.

    Numbers become Python's, and floats where a float is asked for, so that equal values are named alike.

    Raises:
        ValueError: a field is not what its annotation says, or no plain value; see `plain`.
    """
    for field in fields(made):
        settled = taken(field.name, getattr(made, field.name), field.type)
        plain(field.name, settled)
        object.__setattr__(made, field.name, settled)


def taken(name: str, value: Any, hint: Any) -> Any:
    """A value as a hint asks for it, NumPy's numbers as Python's.

    Raises:
        ValueError: it is something else; names it, what is allowed, what came, and where that is known what to write.
    """
    if get_origin(hint) is Annotated:
        return hint.__metadata__[0](name, value)
    if (fitted := fit(value, hint)) is UNFIT:
        raise ValueError(f"{name} must be {_kind(hint)}, got {_said(value)}{_remedy(value)}")
    return fitted


def plain(name: str, value: object) -> None:
    """Refuse what can change: a value is a number, a word, None, a tuple of such, or a frozen dataclass of such.

    Raises:
        ValueError: it is none; names the field in it.
    """
    if value is None or isinstance(value, bool | int | float | str | np.number | np.bool_):
        return
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            plain(f"{name}[{i}]", item)
    elif (how := vars(type(value)).get("__dataclass_params__")) is not None and how.frozen:
        named = [field.name for field in fields(value)]  # type: ignore[arg-type]
        for field in named:
            plain(f"{name}.{field}", getattr(value, field))
        for other in set(getattr(value, "__dict__", ())).difference(named):
            if not isinstance(getattr(type(value), other, None), functools.cached_property):
                raise ValueError(f"{name} must keep all that it holds in its fields, got {other} beside {named}")
    else:
        allowed = "plain (numbers, words, None, tuples and frozen dataclasses of such, as no checkpoint keeps state)"
        raise ValueError(f"{name} must be {allowed}, got {_said(value)}{_remedy(value, to_be='plain')}")


def exactly(function: F) -> F:
    """Have a function make products in the dtype of what it is given, whatever this process has told PyTorch."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        precision = torch.get_float32_matmul_precision()
        mixed = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
        if precision == "highest" and not mixed:
            return function(*args, **given)
        torch.set_float32_matmul_precision("highest")
        try:
            with contextlib.ExitStack() as stack:
                for kind in mixed:
                    stack.enter_context(torch.autocast(kind, enabled=False))
                return function(*args, **given)
        finally:
            torch.set_float32_matmul_precision(precision)

    return call  # type: ignore[return-value]


def checked(*but: str) -> Callable[[F], F]:
    """Have a function refuse arguments that are not of the kinds, shapes and dtypes that its signature says.

    NumPy's numbers are taken as Python's, and one-dimensional arrays as lists. Products are made `exactly`.

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
            bound = signature.bind(*args, **given)
            with jaxtyped("context"):  # an axis has one length in all arguments
                for name, value in bound.arguments.items():
                    if name in hints():
                        bound.arguments[name] = taken(name, value, hints()[name])
            return exactly(function)(*bound.args, **bound.kwargs)

        return call  # type: ignore[return-value]

    return wrap


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Seeds from a count (0 upward) or a sequence.

    Raises:
        ValueError: there is none, one is no integer of 0 .. 2^63 - 1, or one comes twice.
    """
    if (count := fit(seeds, int)) is not UNFIT:
        if not 1 <= count <= 2**24:
            raise ValueError(
                f"seeds must be a count of at least 1 or a sequence of seeds, at most 2**24, got {_said(seeds)}"
            )
        return list(range(count))
    if isinstance(seeds, str) or not isinstance(seeds, Sequence | np.ndarray):
        raise ValueError(f"seeds must be a count of at least 1 or a sequence of seeds, got {_said(seeds)}")
    listed = fit(seeds, Sequence[int])
    if listed is UNFIT or not listed or not all(0 <= s < 2**63 for s in listed) or len(set(listed)) < len(listed):
        raise ValueError(f"seeds must be different integers from 0 to 2**63 - 1, got {_said(seeds)}")
    return listed


UNFIT: Any = object()


def fit(value: Any, hint: Any) -> Any:
    """The value as a hint asks for it, or `UNFIT`; hints that are none of those below let everything through."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return next((fitted for part in parts if (fitted := fit(value, part)) is not UNFIT), UNFIT)
    if hint is None:
        return UNFIT if value is not None else None
    if hint is int:
        fits = isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)
        return int(value) if fits else UNFIT
    if hint is float:
        return _real(value)
    if origin is Callable:
        return value if callable(value) else UNFIT
    if origin is Mapping or origin is dict:
        pairs = value.items() if isinstance(value, Mapping) else [(UNFIT, UNFIT)]
        fitted = {fit(k, parts[0]): fit(v, parts[1]) for k, v in pairs}
        return UNFIT if any(k is UNFIT or v is UNFIT for k, v in fitted.items()) else fitted
    if origin is Sequence or origin is list:
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if not isinstance(value, origin) or isinstance(value, str | bytes):
            return UNFIT
        items = [fit(item, parts[0]) for item in value]
        return UNFIT if any(item is UNFIT for item in items) else items
    if origin is Iterable:
        return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else UNFIT
    if isinstance(value, type) and getattr(hint, "_is_protocol", False):
        return UNFIT  # a class has all that its instances have
    return value if not isinstance(hint, type) or isinstance(value, hint) else UNFIT


def _real(value: Any) -> Any:
    try:
        number = float(value) if isinstance(value, float | np.floating) else float(fit(value, int))
    except (TypeError, OverflowError):
        return UNFIT
    return number if number == number else UNFIT


def _kind(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_kind, parts))
    if origin is Mapping or origin is dict:
        return f"a dictionary of which each value is {_kind(parts[1])}"
    if origin is Sequence or origin is list:
        return f"a sequence of which each item is {_kind(parts[0])}"
    words = {int: "an integer", float: "a number", bool: "True or False", str: "a string", type(None): "None"}
    if (name := getattr(hint, "__name__", "")) in _SUCH:
        return f"{'an' if name[0] in 'AIO' else 'a'} {name}, such as {_SUCH[name]}"
    if hint is None or hint in words:
        return words[type(None) if hint is None else hint]
    return name if isinstance(hint, type) else str(hint).replace("collections.abc.", "")


def _remedy(value: Any, *, to_be: str = "") -> str:
    """What to write instead, where that is likely."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    if kinds := [item for item in inside if isinstance(item, type)]:
        return f"; write {kinds[0].__name__}() for the class"
    if not to_be:
        return ""
    if isinstance(value, list | np.ndarray | Tensor):
        return "; write a tuple"
    if isinstance(value, types.FunctionType | types.MethodType):
        return "; write a frozen dataclass with __call__ for the function"
    return f"; write @dataclass(frozen=True) above class {type(value).__name__}"


def _said(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.100}"
