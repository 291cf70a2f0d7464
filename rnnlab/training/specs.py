"""What a run is: everything that decides its numbers, and a name for it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float32

from rnnlab.descent.algorithm import Algorithm
from rnnlab.methods.method import Method
from rnnlab.naming import UnnamedError, added, digest, form
from rnnlab.network.cells import Cell, Sigma
from rnnlab.network.inits import BasicTanh, Init
from rnnlab.network.losses import Loss
from rnnlab.network.parameters import Sizes
from rnnlab.tasks.pathological import TemporalOrder
from rnnlab.tasks.task import LONGEST, Task
from rnnlab.training.checks import STOPS, Choice, Measure, Rate, Sequences, Stop, as_measures, as_stop
from rnnlab.values import UNFIT, Count, Size, as_seeds, fit, plain, settle, taken, whole

NUMERICS = 2  # raised whenever the same specification and seed give other numbers


def _algorithm(name: str, value: object) -> Method:
    return Algorithm.named(value) if isinstance(value, str) else taken(name, value, Method)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A run but for its seed: everything that decides its numbers.

    Every `check_every` updates each network is tested on `check_sequences` fresh sequences. If fewer than 1 % are
    wrong, it is tested on `confirm_sequences` other fresh ones, and only that test counts: "below 1 %" and "no error"
    are always statements about the larger test.

    Args:
        task: problem, with its length.
        init: initialization, with its non-linearity.
        algorithm: learning rate, clipping, omega; or one of the paper's names, such as "MSGD-CR"; or another `Method`.
        units: N.
        batch: sequences an update, B.
        updates: budget.
        check_every: updates between tests.
        check_sequences: sequences of an ordinary test; at most 1,000, or a multiple of 1,000. Of a task that draws
            lengths each thousand has one; `HoldsAt` and `LargestError` test chosen lengths.
        confirm_sequences: sequences of the test that decides, likewise.
        stop: end a member at its first check "below 1 %", at its first with "no error", "never" before its budget, or
            by an object, such as `HoldsAt(lengths)`.
        measures: what is taken down at every check beside rho and error.
        rate: how each member's learning rate follows the checks; None leaves it as it is.
        choose: which check's networks are the outcome, such as `Lowest("error")`; None: the last.
        cell: what happens in a step; None is the simple cell with the initialization's non-linearity.

    Raises:
        ValueError: a number is out of range, more than a million tests are asked for, or an update draws more than
            2**28 steps.

    Source:
        Pascanu et al. 2013, section 4.1.1, for the defaults; the authors' code stops at no error.
    """

    task: Task = TemporalOrder()
    init: Init = BasicTanh()
    algorithm: Annotated[Method, _algorithm] = Algorithm.named("MSGD-CR")
    units: Size = 50
    batch: Count = 20
    updates: Count = 10_000
    check_every: Count = 500
    check_sequences: Sequences = 1_000
    confirm_sequences: Sequences = 10_000
    stop: Annotated[str | Stop, as_stop] = "below 1 %"
    measures: Annotated[tuple[Measure, ...], as_measures] = added(())
    rate: Rate | None = added(None)
    choose: Choice | None = added(None)
    cell: Cell | None = added(None)

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and names where objects are asked for."""
        settle(self)
        for name, held, kind in (("init.sigma", self.init.sigma, Sigma), ("task.loss", self.task.loss, Loss)):
            plain(name, taken(name, held, kind))
        own = {field.name: getattr(self.algorithm, field.name) for field in fields(self.algorithm)}  # type: ignore[arg-type]
        if self.rate is not None and fit(own.get("learning_rate"), float) is UNFIT:
            said = "rate must be None for an algorithm without a learning rate, a number in a field of that name"
            raise ValueError(f"{said}, got {self.rate}")
        if self.ends is not None:
            self.ends.afterwards(self.task)  # refuses a task that does not do
        if self.task.longest > LONGEST:
            raise ValueError(f"task must have sequences of at most {LONGEST} steps, got {self.task}")
        if self.batch * self.task.longest > LONGEST:
            raise ValueError(f"batch must be at most {LONGEST // self.task.longest} at this length, got {self.batch}")
        if self.updates > self.check_every * 10**6:
            raise ValueError(f"check_every must be at least {-(-self.updates // 10**6)}, got {self.check_every}")

    @property
    def ends(self) -> Stop | None:
        """What ends a member before its budget."""
        return STOPS.get(self.stop) if isinstance(self.stop, str) else self.stop

    @property
    def sizes(self) -> Sizes:
        """Sizes of its networks."""
        return Sizes(self.task.inputs, self.units, self.task.outputs, self.cell)

    @property
    def sigma(self) -> Sigma | None:
        """The initialization's non-linearity, of the simple cell; None for networks of another."""
        return self.init.sigma if self.cell is None else None

    def with_(self, **changes: Any) -> "Spec":
        """The same specification with some fields changed."""
        return replace(self, **changes)

    def canonical(self) -> str:
        """Canonical JSON, `numerics` included: equal for equal specifications, on every machine."""
        return json.dumps({"numerics": NUMERICS, "spec": form(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_canonical(cls, text: str) -> "Spec":
        """The specification of this canonical JSON; parts from outside the package must have been imported.

        Raises:
            ValueError: it is none of this version of the package and of those parts.
        """
        try:
            made = part(json.loads(text)["spec"])
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as reason:
            raise ValueError(f"text must be canonical JSON whose parts were imported, got {text}") from reason
        if not isinstance(made, cls) or made.canonical() != text:
            raise ValueError(f"text must be canonical JSON of the package and the parts as they are now, got {text}")
        return made

    def id(self, seed: int) -> str:
        """Name of one run: the first 16 hexadecimal digits of a hash of the specification and the seed."""
        return run_id(self.canonical(), as_seeds([seed])[0])

    def family(self, seeds: Sequence[int], start: "Start | None" = None) -> str:
        """Name of one ensemble at every budget, since a longer training begins with the shorter one; 20 digits."""
        begun = self.with_(updates=self.check_every).canonical()
        return digest(f"{begun}:{as_seeds(seeds)}" + (f":{start.names}" if start else ""), digits=20)


@dataclass(frozen=True, eq=False)
class Start:
    """Networks that were trained before.

    Args:
        theta: parameters of each, `M P`.
        update: updates that each has made.

    Raises:
        ValueError: theta is no such array of float32, or `update` no integer of at least 0.
    """

    theta: np.ndarray
    update: int

    def __post_init__(self) -> None:
        """Refuse what networks cannot begin with."""
        taken("theta", self.theta, Float32[np.ndarray, "M P"])
        object.__setattr__(self, "update", whole("update", self.update, at_least=0))

    @property
    def names(self) -> list[str]:
        """A name for where each network begins, which says nothing of the others."""
        return [f"{self.update}:{digest(row.tobytes().hex())}" for row in self.theta]


def named(spec: Spec) -> str:
    """Canonical JSON, or "" where a part from outside cannot be named: it trains, but no store can keep it."""
    try:
        return spec.canonical()
    except UnnamedError:
        return ""


def part(said: Any) -> Any:
    """The value that `naming.form` says.

    Raises:
        AttributeError: there is no such class, or it was not imported.
        KeyError: the same, or a dictionary names no class.
        TypeError: what is named is no value, or has other fields.
    """
    if isinstance(said, list):
        return tuple(part(item) for item in said)
    if not isinstance(said, dict):
        return said
    mark = "class" if "class" in said else "type"
    module, _, name = said["class"]["name"].partition(":") if mark == "class" else ("rnnlab", "", said["type"])
    kind = attrgetter(name)(sys.modules[module])
    if not isinstance(kind, type) or not is_dataclass(kind):  # nothing else is ever called
        raise TypeError(f"{name} is no value")
    return kind(**{name: part(item) for name, item in said.items() if name != mark})


def run_id(canonical: str, seed: int, start: str = "") -> str:
    """`Spec.id` of a specification given by its canonical JSON, "unnamed" of one that has none.

    Args:
        canonical: that JSON, or "".
        seed: its seed.
        start: one of `Start.names`, if the run did not begin as its initialization says.
    """
    return digest(f"{canonical}:{seed}" + f":{start}" * bool(start)) if canonical else "unnamed"
