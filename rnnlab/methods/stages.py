"""Methods that follow each other, such as more and more noise, and boxes in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

import torch

from rnnlab.descent.algorithm import Algorithm, check_steady
from rnnlab.descent.clipping import State
from rnnlab.engine.choosing import choose
from rnnlab.engine.contract import CARRIED, Trace
from rnnlab.methods.method import Method, Networks, advanced
from rnnlab.tasks.task import Chunk
from rnnlab.values import UNFIT, fit, refusal, settle, taken


def _methods(name: str, given: Any) -> tuple[Method, ...]:
    if not isinstance(given, tuple | list) or not given:
        raise refusal(name, "a tuple of methods, such as (AdamW(), AdamW(noise=1.0))", given)
    return tuple(taken(f"{name}[{i}]", one, Method) for i, one in enumerate(given))


def _begins(name: str, given: Any) -> tuple[int, ...]:
    begins = fit(given, Sequence[int])
    if begins is UNFIT or list(begins[:1]) != [0] or any(a >= b for a, b in pairwise(begins)):
        raise refusal(name, "a tuple of updates that begins with 0 and increases, such as (0, 5000)", given)
    return tuple(begins)


@dataclass(frozen=True)
class Stages:
    """Methods that follow each other, each with a state of its own, which begins at the method's first update.

    What methods name in `series` beside loss, norm, omega and events is not taken down.

    Args:
        methods: one or more.
        begins: the first update of each: 0, and then increasing.

    Raises:
        ValueError: there is not one update for each method, or they do not increase from 0.
    """

    methods: Annotated[tuple[Any, ...], _methods]  # whose sentence is clearer than a type's
    begins: Annotated[tuple[int, ...], _begins]

    def __post_init__(self) -> None:
        """Settle the fields, and refuse methods without a beginning."""
        settle(self)
        if len(self.begins) != len(self.methods):
            raise refusal("begins", f"{len(self.methods)} updates, one for each method", self.begins)

    def init(self, network: Networks) -> State:
        """The states of all methods, a method's under its place."""
        for method in self.methods:
            if isinstance(method, Algorithm):
                check_steady(method, network.parameters)
        states = [method.init(network) for method in self.methods]
        return {f"{i}.{name}": x for i, state in enumerate(states) for name, x in state.items()}

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Make an update by each batch, each by the method whose turn it is."""
        state, traces, first = dict(state), [], network.update
        for i, (begin, end) in enumerate(pairwise((*self.begins, first + len(batches)))):
            some = slice(max(begin - first, 0), max(min(end - first, len(batches)), 0))
            if some.start < some.stop:
                held = {name: x for name, x in state.items() if name == CARRIED or name.startswith(f"{i}.")}
                own = {name.removeprefix(f"{i}."): x for name, x in held.items()}
                part = Chunk(**{name: x[some] for name, x in batches.parts.items()})
                own, trace = advanced(self.methods[i], self._at(network, i, first + some.start), own, part)
                state |= {name if name == CARRIED else f"{i}.{name}": x for name, x in own.items()}
                traces.append(trace)
        names = ("loss", "norm", "omega", "events")
        return state, Trace.of({name: torch.cat([trace.parts[name] for trace in traces]) for name in names})

    def _at(self, network: Networks, i: int, update: int) -> Networks:
        """The networks as a method sees them: with the fastest engine that knows it."""
        method, parameters, engine = self.methods[i], network.parameters, network.engine
        if isinstance(method, Algorithm):
            device, sizes = parameters.theta.device, parameters.sizes
            engine = choose(sigma=network.sigma, loss=network.loss, algorithm=method, sizes=sizes, device=device)
        return replace(network, engine=engine, update=update)
