"""Gradients against search: the six algorithms of 1994 and random guessing, under a contract for counted tasks.

They do not follow the contract `Method`, which is given gradients of minibatches of one kind of network. These are
given a small fixed training set, ask as often as they like for what they need, and pay by the presentation.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
import xarray
from jaxtyping import Float

from rnnlab import bits
from rnnlab.tasks.counted import CountedTask, Presented, first
from rnnlab.values import Count, Kept, Positive, Seeds, as_seeds, checked, refusal, value, whole

Array = np.ndarray
State = dict[str, Array]  # by name, members in front; "theta" is what a trial has so far
Uniform = Callable[[int], Array]  # so many numbers from 0 to below 1 for each member, of this step


@runtime_checkable
class SearchMethod(Protocol):
    """What `search` asks of a method. It may have `sharp`, that units are to have signs as states.

    With `evaluates` it says that all that it proposes it has evaluated, which then need not be checked once more.
    """

    def start(self, theta: Array) -> State:
        """What it knows before the first step; the parameters, unless told."""
        return {"theta": theta}

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """What it knows after another: for those that work sequence by sequence, an epoch."""


@checked
def search(
    task: CountedTask,
    method: SearchMethod,
    *,
    seeds: Seeds,
    cap: int | Sequence[int],
    theta: Float[np.ndarray, "M P"] | None = None,
    sequences: Count = 20,
) -> xarray.Dataset:
    """Trials of a method on a task, until all training signs are right, a cap is reached or the method is stuck.

    A trial is a function of its seed: others beside it change nothing.

    Args:
        task: `Latch`, `TwoSequence` or `Parity`, or another such.
        method: one of this module, or another such.
        seeds: of the trials.
        cap: presentations, of all or of each.
        theta: what to begin with; drawn, unless told.
        sequences: in the training set.

    Returns:
        Over `seed`: whether it `solved` its training set, how many sequences were `presented`, the `error` on 200
        fresh ones, and over `parameter` `theta`.
    """
    ids = as_seeds(seeds)
    problem = _problem(task, method, ids, cap, sequences)
    theta = first(task, problem.seeds) if theta is None else theta
    if theta.shape != problem.found.shape:
        raise refusal("theta", f"of shape {problem.found.shape}", theta.shape)
    state, whole_set, there, n = method.start(theta.copy()), problem.only(np.arange(len(ids))), np.arange(len(ids)), 0
    problem.evaluate(theta, counted=False)
    while True:
        problem.found = np.where(problem.solved[:, None], problem.found, state["theta"])
        for name in ("found", "solved", "presented"):
            getattr(whole_set, name)[there[problem.done]] = getattr(problem, name)[problem.done]
        going = np.flatnonzero(~problem.done)  # those that have ended are computed no further
        problem, there, state = problem.only(going), there[going], {name: x[going] for name, x in state.items()}
        if not len(there):
            break
        state, n = method.step(state, problem, partial(_uniform, problem.seeds, n)), n + 1
        if not getattr(method, "evaluates", False):
            problem.evaluate(state["theta"], counted=False)
        problem.done |= state.get("stuck", False)
    columns = {"solved": whole_set.solved, "presented": whole_set.presented, "error": whole_set.error(whole_set.found)}
    found = {name: ("seed", x) for name, x in columns.items()} | {"theta": (("seed", "parameter"), whole_set.found)}
    return xarray.Dataset(found, {"seed": ids})


def _problem(task: CountedTask, method: SearchMethod, seeds: list[int], cap: Any, count: int) -> Presented:
    caps = [whole("cap", one) for one in ([cap] * len(seeds) if isinstance(cap, int) else cap)]
    if len(caps) != len(seeds):
        raise refusal("cap", f"one number, or {len(seeds)}", cap)
    ids, sharp = torch.tensor(seeds, dtype=torch.int64, device="cpu"), getattr(method, "sharp", False)
    return Presented(task, ids, cap=np.array(caps), sharp=sharp, count=count)


def _uniform(seeds: torch.Tensor, step: int, count: int) -> Array:
    steps = torch.tensor([step], dtype=torch.int64, device="cpu")
    return bits.uniforms(seeds, steps, stream=bits.NOISE, count=count)[0].double().numpy()


def epoch(state: State, problem: Presented, order: Array, update: Callable[[State, Array, int], State]) -> State:
    """Present every sequence once, by the order of some numbers, with an update after each."""
    for k, which in enumerate(order.argsort(axis=1).T):
        state = update(state, which, k)
    return state


@value
class BackPropagation(SearchMethod):
    """Plain gradient descent, sequence by sequence, by a learning rate."""

    rate: Positive = 0.1

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """An epoch."""

        def update(state: State, which: Array, k: int) -> State:
            g, _ = problem.instances(state["theta"], which)
            return {"theta": state["theta"] - self.rate * g.sum(axis=1)}

        return epoch(state, problem, uniform(problem.count), update)


@value
class PseudoNewton:
    """Gradient descent with a rate for each parameter, from its second derivative: eqs. (5) and (6).

    mu is fixed, or adapted to the nearest that keeps the largest change between `least` and `most`, with momentum.

    Args:
        rate: learning rate.
        weighted: whether each step of the sequence has a rate of its own (time-weighted).
        mu: added to the second derivative, at the start.
        adaptive: whether it changes.
        momentum: share of mu that stays.
        least, most: of the largest change; a larger one is cut off.
    """

    rate: Positive = 0.01
    weighted: bool = False
    mu: Positive = 0.1
    adaptive: bool = True
    momentum: Kept = 0.8
    least: Positive = 0.001
    most: Positive = 0.3

    def start(self, theta: Array) -> State:
        """The parameters, and mu."""
        return {"theta": theta, "mu": np.full(len(theta), self.mu)}

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """An epoch."""

        def update(state: State, which: Array, k: int) -> State:
            g, H = problem.instances(state["theta"], which)
            if not self.weighted:
                g, H = g.sum(axis=1, keepdims=True), H.sum(axis=1, keepdims=True)
            mu = self._adapted(state["mu"], g, H) if self.adaptive else state["mu"]
            return {"theta": state["theta"] - self.change(mu, g, H).clip(-self.most, self.most), "mu": mu}

        return epoch(state, problem, uniform(problem.count), update)

    def change(self, mu: Array, g: Array, H: Array) -> Array:
        """What is taken from the parameters, `M P`, before it is cut off."""
        return self.rate * (g / (H + mu[:, None, None])).sum(axis=1)

    def _adapted(self, mu: Array, g: Array, H: Array) -> Array:
        largest = np.abs(self.change(mu, g, H)).max(axis=1)
        off = np.flatnonzero((largest > self.most) | (largest < self.least))
        wanted, aim = mu.copy(), np.where(largest > self.most, self.most, self.least)[off]
        low, high, g, H = np.full(len(off), np.log(1e-12)), np.full(len(off), np.log(1e6)), g[off], H[off]
        for _ in range(30 if len(off) else 0):  # halve the interval
            middle = (low + high) / 2
            above = np.abs(self.change(np.exp(middle), g, H)).max(axis=1) > aim
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        wanted[off] = np.exp(np.where(largest[off] > self.most, high, low))
        return self.momentum * mu + (1 - self.momentum) * wanted


@value
class DiscreteError(SearchMethod):
    """Discrete error propagation through units that have signs, by `rate`; the rest is told to `Presented.signs`."""

    rate: Positive = 0.03
    eps: Positive = 0.1
    literal: bool = True
    sharp: ClassVar[bool] = True

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """An epoch."""
        B, each = problem.count, problem.task.length * problem.task.units
        u = uniform(B + B * each)
        S = u[:, B:].reshape(len(u), B, each)

        def update(state: State, which: Array, k: int) -> State:
            asked = problem.signs(state["theta"], which, S[:, k], eps=self.eps, literal=self.literal)
            return {"theta": state["theta"] + self.rate * asked}

        return epoch(state, problem, u[:, :B], update)


@value
class Guessing(SearchMethod):
    """New parameters each time, sequence by sequence, until one is wrong.

    Args:
        reach: largest parameter.

    Source:
        Schmidhuber & Hochreiter 1996, "Guessing can outperform many long time lag algorithms".
    """

    reach: Positive = 100.0
    evaluates: ClassVar[bool] = True

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """A guess."""
        theta = self.reach * (2 * uniform(state["theta"].shape[1]) - 1)
        problem.evaluate(theta, until_wrong=True)
        return {"theta": theta}


@value
class MultiGrid:
    """Uniform draws around the best point so far, from a region that shrinks with each that is better.

    Args:
        half: half the side of the region, at the start.
        shrink: factor of that.
    """

    half: Positive = 4.0
    shrink: Kept = 0.9
    evaluates: ClassVar[bool] = True

    def start(self, theta: Array) -> State:
        """The best point, the size of the region and the last four costs, not known yet."""
        return {"theta": theta, "half": np.full(len(theta), self.half), "costs": np.full((len(theta), 4), np.inf)}

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """A draw; at first the point itself."""
        theta, half, costs = state["theta"], state["half"], state["costs"]
        known = np.isfinite(costs[:, -1])
        new = theta + (known * half)[:, None] * (2 * uniform(theta.shape[1]) - 1)
        cost, _ = problem.evaluate(new)
        better = cost < costs[:, -1]
        costs = np.where(better[:, None], np.c_[costs[:, 1:], cost], costs)
        half = np.where(better & known, self.shrink * half, half)
        return {"theta": np.where(better[:, None], new, theta), "half": half, "costs": costs, "stuck": stuck(costs)}


def stuck(costs: Array, best: Array | float = np.inf) -> Array:
    """Whether the last four costs are within 0.001 of each other, and of the best."""
    low = np.minimum(costs.min(axis=1), best)
    with np.errstate(invalid="ignore"):  # inf - inf, of costs that are not known yet
        return costs.max(axis=1) - low <= 0.001


@value
class Annealing:
    """Simulated annealing of one parameter at a time, with moves that about half are accepted of.

    Args:
        sweeps: over the parameters between adjustments of the moves.
        adjustments: between coolings.
        temperature: at the start.
        cooling: factor of that.

    Source:
        Corana et al. 1987, "Minimizing multimodal functions of continuous variables with simulated annealing".
    """

    sweeps: Count = 20
    adjustments: Count = 10
    temperature: Positive = 2.0
    cooling: Kept = 0.85
    evaluates: ClassVar[bool] = True

    def start(self, theta: Array) -> State:
        """The best point and where it is now, costs, sizes of moves and how many of them were accepted."""
        M = len(theta)
        state = {"theta": theta, "at": theta, "moves": np.ones_like(theta), "accepted": np.zeros_like(theta)}
        costs = {"best": np.full(M, np.inf), "cost": np.full(M, np.inf), "costs": np.full((M, 4), np.inf)}
        return state | costs | {"sweep": np.zeros(M, int)}

    def step(self, state: State, problem: Presented, uniform: Uniform) -> State:
        """A sweep; at first an evaluation of the point itself, too."""
        now, P = dict(state), state["theta"].shape[1]
        n = int(now["sweep"][0])
        temperature = self.temperature * self.cooling ** (n // (self.sweeps * self.adjustments))
        if n == 0:
            now["cost"], _ = problem.evaluate(now["at"])
            now["best"] = now["cost"]
        u, now["accepted"] = uniform(2 * P), now["accepted"].copy()
        for i in range(P):
            new = now["at"].copy()
            new[:, i] += now["moves"][:, i] * (2 * u[:, i] - 1)
            cost, _ = problem.evaluate(new)
            accepted = u[:, P + i] < np.exp(np.minimum(0, now["cost"] - cost) / temperature)
            now["accepted"][:, i] += accepted
            now["at"], now["cost"] = np.where(accepted[:, None], new, now["at"]), np.where(accepted, cost, now["cost"])
            better = now["cost"] < now["best"]
            now["theta"] = np.where(better[:, None], now["at"], now["theta"])
            now["best"] = np.where(better, now["cost"], now["best"])
        now["sweep"] = now["sweep"] + 1
        if (n + 1) % self.sweeps == 0:
            now |= {"moves": self.adjusted(now["moves"], now["accepted"]), "accepted": np.zeros_like(now["accepted"])}
        if (n + 1) % (self.sweeps * self.adjustments) == 0:
            now["costs"] = np.c_[now["costs"][:, 1:], now["cost"]]
            now |= {"stuck": stuck(now["costs"], now["best"]), "at": now["theta"], "cost": now["best"]}
        return now

    def adjusted(self, moves: Array, accepted: Array) -> Array:
        """Longer where more than 60 % of the moves were accepted, shorter where less than 40 %; at most 100."""
        share = accepted / self.sweeps
        longer, shorter = 1 + 2 * (share - 0.6).clip(0) / 0.4, 1 + 2 * (0.4 - share).clip(0) / 0.4
        return (moves * longer / shorter).clip(max=100)
