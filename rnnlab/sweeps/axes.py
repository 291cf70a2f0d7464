"""Axes of a sweep: which part of a specification each of them changes, and what its values are called."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import accumulate, chain
from typing import Annotated, Any, cast

import numpy as np
import xarray

from rnnlab.descent.algorithm import Algorithm
from rnnlab.descent.clipping import NoClip
from rnnlab.naming import outside, qualified
from rnnlab.network.inits import INITS
from rnnlab.training.specs import Spec
from rnnlab.values import checked

SHORT = {
    "length": "task.length",
    "learning_rate": "algorithm.learning_rate",
    "threshold": "algorithm.clip.threshold",
    "alpha": "algorithm.alpha.value",
}
PAPER = ("init", "algorithm", "task.length")  # by which the paper tells its runs apart
UNITS = {
    "length": {"long_name": "sequence length", "units": "steps"},
    "learning_rate": {"long_name": "learning rate", "units": "1"},
    "threshold": {"long_name": "largest gradient norm let through", "units": "loss per weight"},
    "updates": {"long_name": "budget", "units": "updates"},
    "check_every": {"long_name": "updates between tests", "units": "updates"},
}


def _by_label(name: str, axis: Any) -> dict[Any, Any]:
    """The values of an axis by what they are called."""
    values = axis.tolist() if isinstance(axis, np.ndarray) else axis
    if not isinstance(values, Mapping | Sequence) or isinstance(values, str | bytes):
        raise ValueError(f"{name} must be a sequence of values, or a dictionary of them by label, got {axis!r:.100}")
    by_label = dict(values) if isinstance(values, Mapping) else {_label(value): value for value in values}
    if not by_label or len(by_label) < len(values):
        raise ValueError(f"{name} must {'be different' if by_label else 'hold at least one'}, got {axis!r:.100}")
    return by_label


def _label(value: Any) -> int | float | str:
    value = value.item() if isinstance(value, np.generic) else value
    return value if type(value) in (int, float, str) else str(value)


Axis = Annotated[Mapping[Any, Any] | Sequence[Any] | np.ndarray, _by_label]


@checked
def grid(base: Spec | xarray.DataArray, **axes: Axis) -> xarray.DataArray:
    """The specifications of a sweep, over a dimension for each axis.

    An axis is called by what it changes: a field of the specification, such as `init`, `algorithm`, `units` or `task`;
    a path to a field of one of its parts, such as "task.second_window"; or `length`, `learning_rate`, `threshold` and
    `alpha`, which are short for paths. The axes are applied in order, and a whole comes before its parts: `algorithm`
    before `threshold`.

    Args:
        base: what they share; or what `grid` returned, to which axes are added.
        axes: values by label; or values that are numbers or words, or are called as they are printed.

    Raises:
        ValueError: an axis is empty, holds a value twice, leads nowhere, would undo one before it, or has a value that
            is refused there.
    """
    specs = base if isinstance(base, xarray.DataArray) else xarray.DataArray(np.array(base, dtype=object))
    if not all(isinstance(spec, Spec) for spec in specs.values.flat):
        raise ValueError(f"base must be a Spec, or an array of them as grid returns it, got an array of {specs.dtype}")
    specs = specs.assign_coords({dim: range(n) for dim, n in specs.sizes.items() if dim not in specs.coords})
    for name, axis in cast(dict[str, dict[Any, Any]], axes).items():
        path = SHORT.get(name, name)
        for before in map(str, specs.dims):
            if f"{SHORT.get(before, before)}.".startswith(f"{path}."):
                where = "be given once, as it is with" if SHORT.get(before, before) == path else "come before"
                raise ValueError(f"{name} must {where} {before}, whose values it would undo")
        cells = [[_changed(spec, path, value, axis=name) for value in axis.values()] for spec in specs.values.flat]
        coords = {**specs.coords, name: (name, list(axis), UNITS.get(name, {}))}
        shape = (*specs.shape, len(axis))
        specs = xarray.DataArray(np.array(cells, dtype=object).reshape(shape), coords, [*specs.dims, name])
    return specs


def labelled(specs: xarray.DataArray) -> list[tuple[dict[str, Any], Spec]]:
    """The specifications of a sweep, each with its labels by axis."""
    cells = map(specs.__getitem__, np.ndindex(specs.shape))
    return [({str(name): label.item() for name, label in cell.coords.items()}, cell.item()) for cell in cells]


def _changed(part: Any, path: str, value: Any, *, axis: str) -> Any:
    """The same with another value there."""
    first, _, rest = path.partition(".")
    held = [field.name for field in fields(part)] if is_dataclass(part) else []
    if first not in held:
        raise ValueError(
            f"{axis} must lead to a field of a specification: {type(part).__name__} has no {first}, but "
            f"{', '.join(held) or 'nothing'}; {', '.join(SHORT)} are short for paths such as {SHORT['threshold']}"
        )
    return replace(part, **{first: _changed(getattr(part, first), rest, value, axis=axis) if rest else value})


def labels(specs: Sequence[Spec]) -> dict[str, list[Any]]:
    """By what specifications are told apart: for each axis, what it is in each of them.

    Initialization, algorithm and length are always there, under the paper's names; all else only if it differs within
    what has one name.
    """
    told = [dict(_parts(spec)) for spec in specs]
    names = {path: name for name, path in SHORT.items()}
    held = [path for path in dict.fromkeys(chain(PAPER, *told)) if any(path in parts for parts in told)]
    paths = [path for path in held if path in PAPER or _differs(path, told)]
    return {names.get(path, path): [parts.get(path, "none") for parts in told] for path in paths}


def _parts(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What everything in a specification is called, by path."""
    if path:
        yield path, _called(part) if is_dataclass(part) else _label(part)
    for field in fields(part) if is_dataclass(part) else ():
        yield from _parts(getattr(part, field.name), f"{path}.{field.name}".lstrip("."))


def _called(part: Any) -> str:
    """A part's name in the paper, else its class."""
    if type(part) is Algorithm:
        remedies = "C" * (type(part.clip) is not NoClip) + "R" * (part.omega is not None)
        return f"MSGD-{remedies}".removesuffix("-")
    own = {init: name for name, init in INITS.items()}.get(type(part), type(part).__name__)
    return qualified(type(part)) if outside(type(part)) else own


def _differs(path: str, told: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it is one thing here and another there, where all that it is a part of has the same name."""
    above = list(accumulate(path.split("."), "{}.{}".format))[:-1]
    within = {(tuple(parts[name] for name in above), parts[path]) for parts in told if path in parts}
    return len(within) > len({names for names, _ in within})
