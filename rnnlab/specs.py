"""What a run is: everything that decides its numbers, and a name for it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from rnnlab.cells import Sizes
from rnnlab.engine.contract import Algorithm
from rnnlab.inits import BasicTanh, Init
from rnnlab.sequences import Task
from rnnlab.tasks import TemporalOrder

NUMERICS = 1  # raised whenever the same specification and seed give other numbers
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
        ValueError: a number is out of range.

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
        for name in ("units", "batch", "updates", "check_every", "check_sequences", "confirm_sequences"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        for name in ("check_sequences", "confirm_sequences"):
            value = getattr(self, name)
            if value > PIECE and value % PIECE:
                raise ValueError(f"{name} must be at most {PIECE} or a multiple of it, got {value}")
        if self.stop not in ("below 1 %", "no error", "never"):
            raise ValueError(f"stop must be 'below 1 %', 'no error' or 'never', got {self.stop!r}")

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
        return hashlib.sha256(f"{self.canonical()}:{seed}".encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """A value as JSON has it; a dataclass becomes its fields and the name of its type."""
    if is_dataclass(value):
        return {"type": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value


def as_seeds(seeds: int | Sequence[int]) -> list[int]:
    """Seeds from a count (0 upward) or a sequence.

    Raises:
        ValueError: there is none, one is no integer of 0 .. 2^63 - 1, or one comes twice.
    """
    if type(seeds) is int:
        if seeds < 1:
            raise ValueError(f"seeds must be a count of at least 1 or a sequence of seeds, got {seeds!r}")
        return list(range(seeds))
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        raise ValueError(f"seeds must be a count of at least 1 or a sequence of seeds, got {seeds!r}")
    listed = list(seeds)
    if not listed or any(type(s) is not int or not 0 <= s < 2**63 for s in listed) or len(set(listed)) < len(listed):
        raise ValueError(f"seeds must be different integers from 0 to 2**63 - 1, got {seeds!r}")
    return listed
