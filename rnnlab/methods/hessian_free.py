"""Hessian-free optimization: steps that conjugate gradients find on a damped quadratic model of the loss."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rnnlab.descent.clipping import State
from rnnlab.engine.contract import Trace, counted
from rnnlab.methods.method import Networks, apart
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import Count, Positive, Spread, refusal, value

Flat = Float[Tensor, "P"]
Product = Callable[[Flat], Flat]
_FORWARD = threading.Lock()  # PyTorch differentiates forward in one thread of a process at a time


def _maps(p: Parameters) -> tuple[Float[Tensor, "N taken"], Float[Tensor, "O read"]]:
    """[W_rec, W_in, b] and [W_out, b_out] of one network, each as one map."""
    recurrent = torch.cat((p.W_rec[0], p.W_in[0], p.b[0, :, None]), dim=1)
    return recurrent, torch.cat((p.W_out[0], p.b_out[0, :, None]), dim=1)


@dataclass(frozen=True, eq=False)
class Linearized:
    """One network of the simple cell around its states: products with its Jacobians, without forming them.

    Args:
        network: one.
        batch: its sequences, all of one length.
        states: h_0 .. h_T, `T+1 B N`.
    """

    network: Networks
    batch: Batch
    states: Float[Tensor, "times B N"]

    @cached_property
    def slope(self) -> Float[Tensor, "T B N"]:
        """sigma'."""
        return self.network.sigma.derivative(self.states[1:])  # type: ignore[union-attr]

    @cached_property
    def taken(self) -> Float[Tensor, "T B taken"]:
        """What pre-activations are made of: the state before, the inputs (a symbol as zeros and a one), and a one."""
        u = self.batch.inputs[0, : len(self.slope)]
        u = u if u.is_floating_point() else functional.one_hot(u.long(), self.network.parameters.sizes.inputs)
        return torch.cat((self.states[:-1], u.to(self.states), torch.ones_like(self.states[1:, :, :1])), dim=-1)

    @cached_property
    def read(self) -> Float[Tensor, "S B read"]:
        """What outputs are made of: the states that they are read from, and a one."""
        states = self.states[1:] if self.network.loss.every_step else self.states[-1:]
        return torch.cat((states, torch.ones_like(states[..., :1])), dim=-1)

    @cached_property
    def outputs(self) -> Float[Tensor, "S B O"]:
        """y."""
        return self.read @ _maps(self.network.parameters)[1].mT

    def pull(self, y: Float[Tensor, "S B O"]) -> Float[Tensor, "S B O"]:
        """Derivative of the mean loss for these outputs."""
        targets = self.batch.targets.to(y.dtype) if self.network.loss.real_targets else self.batch.targets
        return self.network.loss.gradient(y[None], targets, counted(self.batch, self.network.loss))[0]

    def pushed(self, v: Flat) -> tuple[Float[Tensor, "T B N"], Float[Tensor, "S B O"]]:
        """Change of the states, and of the outputs, along v."""
        p = self.network.parameters
        recurrent, output = _maps(Parameters(v[None], p.sizes))
        moved, back = self.taken @ recurrent.mT, p.W_rec[0].mT
        h = torch.zeros_like(moved[0])
        for a, slope in zip(moved, self.slope, strict=True):  # each step's drive becomes its change, in place
            h = a.addmm_(h, back).mul_(slope)
        return moved, moved[-len(self.read) :] @ p.W_out[0].mT + self.read @ output.mT

    def swept(self, dy: Float[Tensor, "S B O"], back: Float[Tensor, "T B N"]) -> Float[Tensor, "T B N"]:
        """What comes back to the pre-activations from the outputs, and from the pre-activations' own, `back`."""
        p, d = self.network.parameters, torch.zeros_like(self.slope[0])
        W, direct = p.W_rec[0], dy @ p.W_out[0]
        for t in range(len(back) - 1, -1, -1):
            at = t - len(back) + len(direct)  # outputs may be those of the last step alone
            d = back[t].addcmul_(d + direct[at] if at >= 0 else d, self.slope[t]) @ W
        return back

    def flat(self, recurrent: Float[Tensor, "N taken"], output: Float[Tensor, "O read"]) -> Flat:
        """In the order of theta what came back to what is `taken`, and to what is `read`."""
        N = len(recurrent)
        parts = recurrent[:, :N], recurrent[:, N:-1], recurrent[:, -1], output[:, :-1], output[:, -1]
        return torch.cat([x.flatten() for x in parts])

    def product(self, v: Flat, *, damping: float = 0.0, structural: float = 0.0) -> Flat:
        """(Gauss and Newton's matrix of the mean loss, plus `damping` (I + `structural` that of the states)) by v.

        The states' is the mean over sequences of sum_t J_t' diag(sigma') J_t, J_t the Jacobian of the pre-activations.
        """
        moved, dy = self.pushed(v)
        with _FORWARD:
            curved = torch.func.jvp(self.pull, (self.outputs,), (dy,))[1]
        back = self.swept(curved, moved.mul_(damping * structural / dy.shape[1]))
        pairs = (back, self.taken), (curved, self.read)
        return damping * v + self.flat(*(d.flatten(0, 1).mT @ x.flatten(0, 1) for d, x in pairs))

    def squares(self) -> Flat:
        """Mean over sequences of the squared derivative of each one's loss."""
        dy = self.pull(self.outputs)
        pairs = (self.swept(dy, torch.zeros_like(self.slope)), self.taken), (dy, self.read)
        each = (torch.einsum("tbi,tbj->bij", d, x).square().sum(dim=0) for d, x in pairs)
        return self.flat(*each) * dy.shape[1]


def conjugate_gradients(A: Product, b: Flat, *, x: Flat, scale: Flat, most: int) -> tuple[list[Flat], int]:
    """Iterates towards the x with A(x) = b, a third further apart each, the last one last; and their number.

    They end where the quadratic model falls by less than 0.05 % an iteration, over the last tenth of them, or ten.

    Source:
        Martens 2010, "Deep learning via Hessian-free optimization", sections 4.4 to 4.7.
    """
    kept: list[Flat] = []
    r = A(x) - b
    p, rz, models, due, n = -r / scale, r @ (r / scale), [0.5 * float(x @ (r - b))], 1.0, 0
    while n < most:
        if not (curvature := p @ (Ap := A(p))) > 0:  # of a loss that is not convex, or below what the dtype resolves
            break
        n, x, r = n + 1, x + rz / curvature * p, r + rz / curvature * Ap
        models.append(0.5 * float(x @ (r - b)))
        if n >= due:
            kept, due = [*kept, x], max(n + 1, 1.3 * due)
        k = max(10, n // 10)
        if n > k and models[-1] < 0 and (models[-1] - models[-1 - k]) / models[-1] < k * 5e-4:
            break
        p, rz = -r / scale + r @ (r / scale) / rz * p, r @ (r / scale)
    return [*kept, x], n


@value
class HessianFree:
    """Hessian-free optimization with structural damping, of networks of the simple cell.

    An update has its gradient from the whole batch and its curvature from the first `curvature` sequences.

    Args:
        curvature: sequences that products are made with; at most the batch.
        structural: mu: the states' curvature counts lambda mu.
        damping: lambda at the start; it goes up by half where the model foretells too much, down by a third where not.
        most: iterations of conjugate gradients.

    Source:
        Martens & Sutskever 2011, "Learning recurrent neural networks with Hessian-free optimization".
    """

    curvature: Count = 200
    structural: Spread = 0.03
    damping: Positive = 0.1
    most: Count = 250
    series: ClassVar = {
        "damping": ("lambda", "1"),
        "iterations": ("iterations of conjugate gradients", "1"),
        "reduction": ("fall of the loss over that of its model", "1"),
        "passes": ("passes of a sequence, forward and back", "1"),
    }

    def init(self, network: Networks) -> State:
        """Lambda, and where conjugate gradients begin.

        Raises:
            ValueError: the networks are of another cell.
        """
        theta = network.parameters.theta
        if network.sigma is None:
            raise refusal("cell", "None, the simple one, for HessianFree", network.parameters.sizes.cell)
        return {"damping": torch.full_like(theta[:, 0], self.damping), "direction": torch.zeros_like(theta)}

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Make an update by each batch, member by member.

        Raises:
            ValueError: sequences go on from batch to batch, or those of a batch differ in length.
        """
        if batches.begins is not None or batches.lengths.ndim > 2:
            raise refusal("task", "one whose sequences begin anew, all of a batch as long, for HessianFree", batches)
        state, rows, theta, C = apart(state), [], network.parameters.theta, self.curvature
        for batch in batches:
            g = network.gradients(batch)
            for m, T in enumerate(batch.lengths.tolist()):
                alone = replace(network, parameters=Parameters(theta[m : m + 1], network.parameters.sizes))
                one = Batch(batch.inputs[m : m + 1, :T], batch.targets[m : m + 1, :T], batch.lengths[m : m + 1])
                few = replace(one, inputs=one.inputs[:, :, :C], targets=one.targets[:, :, :C])
                near = Linearized(alone, few, g.states[m, : T + 1, :C])
                rows.append(self._step(one, near, g.theta[m], g.loss[m], {name: x[m] for name, x in state.items()}))
        shape = len(batches), len(theta)
        return state, Trace.of({name: torch.stack([row[name] for row in rows]).view(shape) for name in rows[0]})

    def _step(self, batch: Batch, near: Linearized, g: Flat, E: Tensor, state: State) -> dict[str, Tensor]:
        """An update of one member, its state and parameters changed; what is taken down."""
        network, damping, falls = near.network, float(state["damping"]), []
        theta, sizes = network.parameters.theta, network.parameters.sizes

        def fall(step: Flat) -> float:
            """How much the loss of the batch falls."""
            y, _ = replace(network, parameters=Parameters(theta + step, sizes)).outputs(batch)
            targets = batch.targets.to(y.dtype) if network.loss.real_targets else batch.targets
            falls.append(float(E - network.loss.value(y, targets, counted(batch, network.loss))[0]))
            return falls[-1] if math.isfinite(falls[-1]) else -math.inf

        scale = (near.squares() + damping) ** 0.75
        begun, damped = 0.95 * state["direction"], partial(near.product, damping=damping, structural=self.structural)
        kept, n = conjugate_gradients(damped, -g, x=begun, scale=scale, most=self.most)
        step, found = _chosen(kept, fall, g)
        ratio = falls[0] / -(g @ kept[-1] + 0.5 * kept[-1] @ near.product(kept[-1]))
        state["direction"].copy_(kept[-1] if found >= 0 else torch.zeros_like(step))
        theta.add_(step if found >= 0 else 0.0)
        state["damping"].mul_(1.5 if not ratio >= 0.25 else 2 / 3 if ratio > 0.75 else 1.0)
        B, C = batch.inputs.shape[2], near.slope.shape[1]
        passes = B + (n + 3) * C + len(falls) * B / 2
        seen = {"norm": g.norm(), "damping": damping, "reduction": ratio, "iterations": n, "passes": passes}
        return {"loss": E} | {name: E.new_tensor(float(x)) for name, x in seen.items()}


def _chosen(kept: list[Flat], fall: Callable[[Flat], float], g: Flat) -> tuple[Flat, float]:
    """The step among iterates, from the last one back while that is better, and shortened until it is worth it."""
    step, found = kept[-1], fall(kept[-1])
    for earlier in reversed(kept[:-1]):
        if not (more := fall(earlier)) >= found:
            break
        step, found = earlier, more
    for _ in range(12):
        if found >= -0.01 * g @ step:
            break
        step = 0.8 * step
        found = fall(step)
    return step, found
