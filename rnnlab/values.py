"""Values that check themselves when they are made, and functions that take what their signatures say.

An annotation says what is taken: a type, or `Annotated` with a check, a function of a name and a value that returns the
value as it is to be, or refuses it by that name.
"""

import contextlib
import functools
import inspect
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import jaxtyped
from torch import Tensor

F = TypeVar("F", bound=Callable)
T = TypeVar("T")

UNFIT: Any = object()
_UNIONS = (Union, types.UnionType)
_SWITCH, _ASKED = threading.Lock(), list[str]()  # the precision that a process has asked for, once for each call
_WORDS = {int: "an integer", float: "a number", bool: "True or False", str: "a string", types.NoneType: "None"}
# What to write where one of these is asked for.
_SUCH = {
    "Method": "Algorithm.named('MSGD-CR')",
    "Cell": "LSTM()",
    "Choice": "Lowest('error')",
    "Clip": "Norm(1.0)",
    "Guard": "Shrink()",
    "Init": "SmartTanh()",
    "Map": "Network(W_rec=W_rec, push=b, sigma=Tanh())",
}
_SUCH |= {"Loss": "Softmax()", "Omega": "Code()", "Schedule": "Constant(4.0)", "Sigma": "Tanh()"}
_SUCH |= {"Cell": "LSTM()", "Penalty": "L2(0.01)"}
_SUCH |= {"Spec": "Spec(updates=1000)", "Task": "TemporalOrder(50)"}


def refusal(name: str, allowed: str, value: Any, remedy: str = "") -> ValueError:
    """What to raise: a sentence that names an argument, what is allowed, what came, and what to write instead."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    classes = [item for item in inside if isinstance(item, type) and item.__module__ != "builtins"]
    remedy = f"{classes[0].__name__}() for the class" if classes else remedy
    said = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.100}"
    return ValueError(f"{name} must be {allowed}, got {said}" + (f"; write {remedy}" if remedy else ""))


def whole(name: str, value: object, *, at_least: int = 1, at_most: int = 2**31 - 1) -> int:
    """An integer within these bounds, NumPy's as Python's.

    Raises:
        ValueError: it is none; True and False are none either.
    """
    number = fit(value, int)
    if number is UNFIT or number < at_least:
        raise refusal(name, "a positive integer" if at_least == 1 else f"an integer, at least {at_least}", value)
    if number > at_most:
        raise refusal(name, f"at most {at_most}", value)
    return number


def positive(name: str, value: object, *, zero: bool = False, infinite: bool = False) -> float:
    """A positive, finite number as Python's float, without the sign of 0; `zero` and `infinite` let these through.

    Raises:
        ValueError: it is none.
    """
    number = fit(value, float)
    if number is UNFIT or not (0 < number < float("inf") or (zero and number == 0) or (infinite and number > 0)):
        kinds = "a positive, finite number", "a positive number", "a finite number, at least 0", "a number, at least 0"
        raise refusal(name, kinds[2 * zero + infinite], value)
    return number + 0.0


@functools.cache
def among(*words: str) -> Callable[[str, object], str]:
    """What returns one of these words, or refuses what is none of them by name."""

    def chosen(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise refusal(name, " or ".join([", ".join(map(repr, words[:-1])), repr(words[-1])]), value)
        return str(value)

    return chosen


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Seeds from a count (0 upward) or a sequence.

    Raises:
        ValueError: there is none, one is no integer of 0 .. 2^63 - 1, or one comes twice.
    """
    given = fit(seeds, int | Sequence[int])
    if given is UNFIT or (isinstance(given, int) and not 1 <= given <= 2**24):
        raise refusal("seeds", "a count of at least 1 or a sequence of seeds, at most 2**24", seeds)
    listed = list(range(given)) if isinstance(given, int) else given
    if not listed or not all(0 <= s < 2**63 for s in listed) or len(set(listed)) < len(listed):
        raise refusal("seeds", "different integers from 0 to 2**63 - 1", seeds)
    return listed


def finite(name: str, value: object) -> float:
    """A finite number as Python's float, without the sign of 0.

    Raises:
        ValueError: it is none.
    """
    if (number := fit(value, float)) is UNFIT or abs(number) == float("inf"):
        raise refusal(name, "a finite number", value)
    return number + 0.0


def below_one(name: str, value: object) -> float:
    """A number from 0 to below 1 as Python's float, such as the share of an average that is kept.

    Raises:
        ValueError: it is none.
    """
    if (number := fit(value, float)) is UNFIT or not 0 <= number < 1:
        raise refusal(name, "a number from 0 to below 1", value)
    return number + 0.0


Count = Annotated[int, whole]
Natural = Annotated[int, functools.partial(whole, at_least=0)]
Members = Annotated[int, functools.partial(whole, at_most=2**24)]
Size = Annotated[int, functools.partial(whole, at_most=2**14)]
Positive = Annotated[float, positive]
Finite = Annotated[float, finite]
Kept = Annotated[float, below_one]
Limit = Annotated[float, functools.partial(positive, infinite=True)]
Weight = Annotated[float, lambda _, value: positive("alpha", value, zero=True)]
Spread = Annotated[float, functools.partial(positive, zero=True)]
Seeds = Annotated[int | Sequence[int], lambda _, value: as_seeds(value)]
Seconds = Annotated[float, functools.partial(positive, zero=True, infinite=True)]


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


def plain(name: str, value: object) -> None:
    """Refuse what can change: a value is a number, a word, None, a tuple of such, or a frozen dataclass of such.

    Raises:
        ValueError: it is none; names the field in it.
    """
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
    elif not isinstance(value, types.NoneType | int | float | str | np.number | np.bool_):
        allowed = "plain (numbers, words, None, tuples and frozen dataclasses of such, as no checkpoint keeps state)"
        remedy = f"@dataclass(frozen=True) above class {type(value).__name__}"
        if isinstance(value, types.FunctionType | types.MethodType):
            remedy = "a frozen dataclass with __call__ for the function"
        raise refusal(name, allowed, value, "a tuple" if isinstance(value, list | np.ndarray | Tensor) else remedy)


@contextlib.contextmanager
def _highest() -> Iterator[None]:
    """Products in float32 are exact meanwhile; of calls in several threads the last to end undoes it."""
    with _SWITCH:
        _ASKED.append(asked := _ASKED[0] if _ASKED else torch.get_float32_matmul_precision())
        if asked != "highest":
            torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        with _SWITCH:
            _ASKED.pop()
            if asked != "highest" and not _ASKED:
                torch.set_float32_matmul_precision(asked)


def exactly(function: F) -> F:
    """Have a function make products in the dtype of what it is given, whatever this process has told PyTorch."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_highest())
            for kind in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
                stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **given)

    return call  # type: ignore[return-value]


def checked(function: F) -> F:
    """Have a function take what its signature says (kinds, shapes, dtypes), and make products `exactly`.

    What is NumPy's is taken as Python's; see `python`.

    Raises:
        ValueError: at a call; names the parameter, what is allowed and what came.
    """
    signature, exact = inspect.signature(function), exactly(function)
    hints = functools.cache(lambda: get_type_hints(function, include_extras=True))

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        bound = signature.bind(*args, **given)
        with jaxtyped("context"):  # an axis has one length in all arguments
            for name, value in bound.arguments.items():
                hint, kind = hints().get(name, Any), signature.parameters[name].kind
                if kind is inspect.Parameter.VAR_KEYWORD:
                    bound.arguments[name] = {key: taken(key, one, hint) for key, one in value.items()}
                else:
                    bound.arguments[name] = taken(name, value, hint)
        return exact(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


def taken(name: str, value: Any, hint: Any) -> Any:
    """A value as a hint asks for it, NumPy's as Python's (see `python`); beside a check, None may be allowed.

    Raises:
        ValueError: it is something else; names it, what is allowed, what came, and where that is known what to write.
    """
    parts = get_args(hint) if get_origin(hint) in _UNIONS else (hint,)
    for part in parts:
        if get_origin(part) is Annotated:
            return None if value is None and types.NoneType in parts else part.__metadata__[0](name, python(value))
    if (fitted := fit(value, hint)) is UNFIT:
        raise refusal(name, _kind(hint)[0], value)
    return fitted


def python(value: Any) -> Any:
    """NumPy's numbers, words and flags as Python's, arrays of no axis like them and of one as lists; all else as it is.

    Times stay NumPy's, since as numbers they would lose their unit.
    """
    small = isinstance(value, np.generic | np.ndarray) and value.ndim < 2 and value.dtype.kind not in "mM"
    return value.tolist() if small else value


def fit(value: Any, hint: Any) -> Any:
    """The value as a hint asks for it, or `UNFIT`."""
    return _kind(hint)[1](value)


@functools.cache
def _kind(hint: Any) -> tuple[str, Callable[[Any], Any]]:
    """What a hint is called, and what returns a value as it asks for it, or `UNFIT`; one unknown here takes all."""
    origin, name = get_origin(hint), getattr(hint, "__name__", "")
    if hint in (int, float):
        return _WORDS[hint], _integer if hint is int else _real
    if hint in (bool, str):
        return _WORDS[hint], lambda value: it if isinstance(it := python(value), hint) else UNFIT
    if origin in _UNIONS:
        named, fits = zip(*map(_kind, get_args(hint)), strict=True)
        return " or ".join(named), lambda value: next((x for fit in fits if (x := fit(value)) is not UNFIT), UNFIT)
    if origin in (Mapping, dict, Sequence, list):
        *keys, (words, item) = map(_kind, get_args(hint))
        if keys:
            return f"a dictionary of which each value is {words}", functools.partial(_mapped, keys[0][1], item)
        return f"a sequence of which each item is {words}", functools.partial(_listed, origin, item)
    kind = types.NoneType if hint is None else hint if isinstance(hint, type) and hint is not Any else object
    kind = origin if origin in (Callable, Iterable) else kind
    # A class has all that a protocol asks of its instances, and a string is no list of words.
    never = type if getattr(hint, "_is_protocol", False) else str | bytes if origin is Iterable else ()
    words = _WORDS.get(kind) or (name if isinstance(hint, type) else str(hint).replace("collections.abc.", ""))
    if name in _SUCH:
        words = f"{'an' if name[0] in 'AIO' else 'a'} {name}, such as {_SUCH[name]}"
    return words, lambda value: value if isinstance(value, kind) and not isinstance(value, never) else UNFIT


def _integer(value: Any) -> Any:
    number = python(value)
    return int(number) if isinstance(number, int) and not isinstance(number, bool) else UNFIT


def _real(value: Any) -> Any:
    value = python(value)
    try:
        number = float(value if isinstance(value, float | np.longdouble) else _integer(value))
    except (TypeError, OverflowError):
        return UNFIT
    return number if number == number else UNFIT


def _mapped(key: Callable[[Any], Any], item: Callable[[Any], Any], value: Any) -> Any:
    fitted = {key(k): item(v) for k, v in value.items()} if isinstance(value, Mapping) else {UNFIT: UNFIT}
    return UNFIT if any(k is UNFIT or v is UNFIT for k, v in fitted.items()) else fitted


def _listed(kind: type, item: Callable[[Any], Any], value: Any) -> Any:
    value = python(value)
    sequence = isinstance(value, kind) and not isinstance(value, str | bytes)
    items = [item(one) for one in value] if sequence else [UNFIT]
    return UNFIT if any(one is UNFIT for one in items) else items
