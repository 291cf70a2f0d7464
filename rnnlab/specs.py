"""What a run is: everything that decides its numbers, and a name for it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from rnnlab.cells import Sizes
from rnnlab.checking import as_seeds, choice, whole
from rnnlab.engine.contract import Algorithm
from rnnlab.inits import BasicTanh, Init
from rnnlab.sequences import Task
from rnnlab.tasks import TemporalOrder

NUMERICS = 2  # raised whenever the same specification and seed give other numbers
PIECE = 1_000  # sequences of a test that share one length, as in the authors' code


_PARTS = (
    ("task", Task, "one of rnnlab's tasks, such as TemporalOrder(50)"),
    ("init", Init, "one of rnnlab's initializations, such as SmartTanh()"),
    ("algorithm", Algorithm, "an Algorithm, such as Algorithm.named('MSGD-CR')"),
)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A run but for its seed: everything that decides its numbers.

    Every `check_every` updates each network is tested on `check_sequences` fresh sequences. If fewer than 1 % are
    wrong, it is tested on `confirm_sequences` other fresh ones, and only that test counts: "below 1 %" and "no error"
    are always statements about the larger test.

    Args:
        task: problem, with its length.
        init: initialization, with its non-linearity.
        algorithm: learning rate, clipping, omega.
        units: N.
        batch: sequences an update, B.
        updates: budget.
        check_every: updates between tests.
        check_sequences: sequences of an ordinary test; at most 1,000, or a multiple of 1,000.
        confirm_sequences: sequences of the test that decides, likewise.
        stop: end a member at its first check below 1 %, at its first with no error, or never before its budget.

    Raises:
        ValueError: a number is out of range, more than a million tests are asked for, or an update draws more than
            2**28 steps.

    Source:
        Pascanu et al. 2013, section 4.1.1, for the defaults; the authors' code stops at no error.
    """

    task: Task = TemporalOrder()
    init: Init = BasicTanh()
    algorithm: Algorithm = Algorithm.named("MSGD-CR")
    units: int = 50
    batch: int = 20
    updates: int = 10_000
    check_every: int = 500
    check_sequences: int = 1_000
    confirm_sequences: int = 10_000
    stop: str = "below 1 %"

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and names where objects are asked for."""
        for name, kind, example in _PARTS:
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be {example}, got {getattr(self, name)!r}")
        for name in ("units", "batch", "updates", "check_every"):
            whole(name, getattr(self, name), at_most=2**14 if name == "units" else 2**31 - 1)
        if self.batch * self.task.longest > 2**28:
            raise ValueError(f"batch must be at most {2**28 // self.task.longest} at this length, got {self.batch}")
        if self.updates > self.check_every * 10**6:
            raise ValueError(f"check_every must be at least {-(-self.updates // 10**6)}, got {self.check_every}")
        for name in ("check_sequences", "confirm_sequences"):
            tested(name, getattr(self, name))
        choice("stop", self.stop, "below 1 %", "no error", "never")

    @property
    def sizes(self) -> Sizes:
        """Sizes of its networks."""
        return Sizes(self.task.inputs, self.units, self.task.outputs)

    def with_(self, **changes: Any) -> "Spec":
        """The same specification with some fields changed."""
        return replace(self, **changes)

    def canonical(self) -> str:
        """Canonical JSON, `numerics` included: equal for equal specifications, on every machine."""
        return json.dumps({"numerics": NUMERICS, "spec": _plain(self)}, sort_keys=True, separators=(",", ":"))

    def id(self, seed: int) -> str:
        """Name of one run: the first 16 hexadecimal digits of a hash of the specification and the seed."""
        return run_id(self.canonical(), *as_seeds([seed]))

    def family(self, seeds: Sequence[int]) -> str:
        """Name of one ensemble at every budget, since a longer training begins with the shorter one; 20 digits."""
        begun = self.with_(updates=self.check_every).canonical()
        return hashlib.sha256(f"{begun}:{list(seeds)}".encode()).hexdigest()[:20]


def tested(name: str, value: object) -> None:
    """Refuse a number of test sequences that does not fall into pieces.

    Raises:
        ValueError: it is no integer from 1 to 1,000, and no multiple of 1,000.
    """
    whole(name, value)
    if isinstance(value, int) and value > PIECE and value % PIECE:
        raise ValueError(f"{name} must be at most {PIECE} or a multiple of it, got {value}")


def run_id(canonical: str, seed: int) -> str:
    """`Spec.id` of a specification given by its canonical JSON."""
    return hashlib.sha256(f"{canonical}:{seed}".encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """A value as JSON has it; a dataclass becomes its fields and the name of its type."""
    if is_dataclass(value):
        return {"type": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value
