"""Who is timed by `make bench`: our engines, and honest peers that train the same networks on the same batches."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

import rnnlab
from rnnlab.engine import batched
from rnnlab.engine.cpu import fused as cpu
from rnnlab.network.cells import Sigma
from rnnlab.network.losses import Loss
from rnnlab.tasks.pathological import TASKS
from tests.benchmarks.corpora import CORPORA

TANH = rnnlab.Tanh()


@dataclass(frozen=True)
class Case:
    """What is timed; the case of the targets unless told otherwise."""

    task: str = "temporal order"
    algorithm: str = "MSGD-CR"
    N: int = 50
    B: int = 20
    T: int = 100
    members: int = 16


class Problem:
    """Networks and batches of a case, the same for everybody.

    Large ones begin with a spectral radius below 1: beyond it, rounding grows to other parameters in three updates.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.task = case, (TASKS | CORPORA)[case.task](case.T)
        self.init = rnnlab.BasicTanh() if case.N <= 100 else rnnlab.SmartTanh()
        self.sizes = rnnlab.Sizes(self.task.inputs, case.N, self.task.outputs)
        self.seeds = torch.arange(case.members)
        self.algorithm = rnnlab.Algorithm.named(case.algorithm)
        self.start = self.init.parameters(self.sizes, self.seeds.tolist())

    def chunk(self, first: int, updates: int, seeds: Tensor) -> rnnlab.Chunk:
        """Batches of `updates` updates from number `first`."""
        return self.task.chunk(seeds, torch.arange(first, first + updates), batch=self.case.B)


Run = Callable[[Problem, int], Tensor]  # so many updates of every member -> theta


def run_engine(engine: ModuleType, sigma: Sigma = TANH) -> Run:
    """One of our engines, on all members at once."""

    def run(problem: Problem, updates: int) -> Tensor:
        parameters, chunk = problem.start.clone(), problem.chunk(0, updates, problem.seeds)
        engine.sgd(parameters, chunk, sigma=sigma, loss=problem.task.loss, algorithm=problem.algorithm)
        return parameters.theta

    return run


class Eager(nn.Module):
    """The loop that one writes first: a step per line, every state kept for its gradient."""

    def __init__(self, network: rnnlab.Parameters) -> None:
        super().__init__()
        pieces = (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
        self.W_rec, self.W_in, self.b, self.W_out, self.b_out = (nn.Parameter(p[0].clone()) for p in pieces)

    def forward(self, u: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits at the last step, and every state."""
        h = u.new_zeros(u.shape[1], self.b.shape[0])
        states = []
        for u_t in u:
            h = torch.tanh(h @ self.W_rec.T + u_t @ self.W_in.T + self.b)
            h.retain_grad()
            states.append(h)
        return h @ self.W_out.T + self.b_out, states


def run_eager(problem: Problem, updates: int) -> Tensor:
    """One member after another, one step after another, omega from autograd's total gradients."""
    algorithm, trained = problem.algorithm, []
    for m in range(problem.case.members):
        network = Eager(problem.start.select([m]))
        optimizer = torch.optim.SGD(network.parameters(), lr=algorithm.learning_rate)
        for k in range(updates):
            batch = problem.chunk(k, 1, problem.seeds[m : m + 1])[0]
            u = nn.functional.one_hot(batch.inputs[0].long(), problem.sizes.inputs).float()
            y, states = network(u)
            optimizer.zero_grad()
            nn.functional.cross_entropy(y, batch.targets[0, 0].long()).backward()
            d = torch.stack([h.grad for h in states])
            h = torch.stack(states).detach()
            d2 = d.square().sum(dim=-1)
            live = d2 >= 1e-20
            n2 = ((d * (1 - h * h)) @ network.W_rec).square().sum(dim=-1)
            omega = ((n2[live] / d2[live] - 1) ** 2).mean()
            network.W_rec.grad += algorithm.alpha(k) * torch.autograd.grad(omega, network.W_rec)[0]
            nn.utils.clip_grad_norm_(network.parameters(), algorithm.clip.threshold)
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    return torch.stack(trained)


def error(loss: Loss, y: Tensor, targets: Tensor) -> Tensor:
    """A loss of one member's outputs, `S B O`, as torch has it."""
    if not loss.real_targets:
        return nn.functional.cross_entropy(y.flatten(0, 1), targets.flatten().long())
    squared = isinstance(loss, rnnlab.SquaredError)
    of_one = nn.functional.mse_loss if squared else nn.functional.binary_cross_entropy_with_logits
    return of_one(y, targets, reduction="sum") / targets[..., 0].numel()


def run_nn_rnn(problem: Problem, updates: int) -> Tensor:
    """`torch.nn.RNN` with clipping and without omega: less work than the others do."""
    algorithm, loss, trained = problem.algorithm, problem.task.loss, []
    for m in range(problem.case.members):
        start = problem.start.select([m])
        rnn = nn.RNN(problem.sizes.inputs, problem.sizes.units)
        read = nn.Linear(problem.sizes.units, problem.sizes.outputs)
        with torch.no_grad():
            for p, value in (
                (rnn.weight_hh_l0, start.W_rec[0]),
                (rnn.weight_ih_l0, start.W_in[0]),
                (rnn.bias_ih_l0, start.b[0]),
                (rnn.bias_hh_l0, torch.zeros_like(start.b[0])),
                (read.weight, start.W_out[0]),
                (read.bias, start.b_out[0]),
            ):
                p.copy_(value)
        rnn.bias_hh_l0.requires_grad_(False)  # a second bias that the model does not have
        weights = [rnn.weight_hh_l0, rnn.weight_ih_l0, rnn.bias_ih_l0, read.weight, read.bias]
        optimizer = torch.optim.SGD(weights, lr=algorithm.learning_rate)
        for k in range(updates):
            batch = problem.chunk(k, 1, problem.seeds[m : m + 1])[0]
            u = batch.inputs[0]
            u = u if u.is_floating_point() else nn.functional.one_hot(u.long(), problem.sizes.inputs).float()
            optimizer.zero_grad()
            every, last = rnn(u)
            error(loss, read(every if loss.every_step else last), batch.targets[0]).backward()
            nn.utils.clip_grad_norm_(weights, algorithm.clip.threshold)
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in weights]))
    return torch.stack(trained)


def pulled(delta: Tensor, h: Tensor, W_rec: Tensor, alpha: float) -> Tensor:
    """alpha times omega's derivative for W_rec, from total derivatives and states of one network, `T B N`."""
    v = delta * (1 - h * h)
    n = v @ W_rec
    d2, n2 = delta.square().sum(dim=-1), n.square().sum(dim=-1)
    live = d2 >= 1e-20
    c = torch.where(live, (n2 / d2 - 1) / d2, 0.0) * (4 * alpha / live.sum())
    return torch.einsum("tb,tbi,tbj->ij", c, v, n)


def run_vmap(problem: Problem, updates: int) -> Tensor:
    """`torch.func.vmap` over members of `grad`; delta is the gradient for a zero added to every state."""
    algorithm, N, B = problem.algorithm, problem.case.N, problem.case.B
    network = problem.start
    weights = [p.clone() for p in (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)]

    def loss(weights: list[Tensor], zeros: Tensor, u: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        W_rec, W_in, b, W_out, b_out = weights
        h, states = torch.zeros(B, N), []
        for zero, drive in zip(zeros.unbind(0), (u @ W_in.T + b).unbind(0), strict=True):
            h = torch.tanh(h @ W_rec.T + drive) + zero
            states.append(h)
        return nn.functional.cross_entropy(h @ W_out.T + b_out, target), torch.stack(states)

    def update(weights: list[Tensor], u: Tensor, target: Tensor) -> list[Tensor]:
        zeros = torch.zeros(u.shape[0], B, N)
        (grads, delta), h = torch.func.grad(loss, argnums=(0, 1), has_aux=True)(weights, zeros, u, target)
        grads[0] = grads[0] + pulled(delta, h, weights[0], algorithm.alpha(0))
        norm = torch.cat([g.flatten() for g in grads]).norm()
        rate = algorithm.learning_rate * (algorithm.clip.threshold / norm).clamp(max=1)
        return [w - rate * g for w, g in zip(weights, grads, strict=True)]

    step = torch.func.vmap(update)
    for batch in problem.chunk(0, updates, problem.seeds):
        u = nn.functional.one_hot(batch.inputs.long(), problem.sizes.inputs).float()
        weights = step(weights, u, batch.targets[:, 0].long())
    return torch.cat([w.flatten(1) for w in weights], dim=1)


@functools.cache
def jax_update(alpha: float, rate: float, threshold: float, loss: Loss, mixed: bool) -> Callable:
    """`jit(vmap(scan))`: all updates of all members in one call, the backward sweep and omega written by hand.

    Where lengths are mixed, steps beyond a member's own change nothing.
    """
    import jax
    import jax.numpy as jnp

    def update(weights: tuple, batch: tuple) -> tuple:
        W_rec, W_in, b, W_out, b_out = weights
        inputs, targets, length = batch  # T B (I), S B (O), ()
        (T, B), I = inputs.shape[:2], W_in.shape[1]
        real = jnp.issubdtype(inputs.dtype, jnp.floating)
        drive = inputs @ W_in.T + b if real else (W_in.T + b)[inputs]  # T B N
        within = jnp.arange(T) < length

        def kept(t, new, old):
            return jnp.where(within[t], new, old) if mixed else new

        def forward(h, step):
            t, drive_t = step
            h = kept(t, jnp.tanh(h @ W_rec.T + drive_t), h)
            return h, h

        def backward(later, step):
            t, h, immediate_t = step
            delta = later if immediate_t is None else later + immediate_t
            v = kept(t, delta * (1 - h * h), 0.0)
            n = v @ W_rec
            return kept(t, n, delta), (delta, v, n)

        start = jnp.zeros((B, b.shape[0]))
        last, h = jax.lax.scan(forward, start, (jnp.arange(T), drive))
        read = h if loss.every_step else last[None]  # S B N
        y = read @ W_out.T + b_out
        if loss.real_targets:
            dy = 2 * (y - targets) if isinstance(loss, rnnlab.SquaredError) else jax.nn.sigmoid(y) - targets
        else:
            dy = jax.nn.softmax(y) - jax.nn.one_hot(targets, b_out.shape[0])
        dy = dy / (B * (length if loss.every_step else 1))
        if mixed and loss.every_step:
            dy = jnp.where(within[:, None, None], dy, 0.0)
        immediate = dy @ W_out
        later, each = (jnp.zeros_like(start), immediate) if loss.every_step else (immediate[0], None)
        _, (delta, v, n) = jax.lax.scan(backward, later, (jnp.arange(T), h, each), reverse=True)
        d2, n2 = (delta**2).sum(-1), (n**2).sum(-1)
        live = (d2 >= 1e-20) & within[:, None]
        c = jnp.where(live, (n2 / d2 - 1) / d2, 0.0) * (4 * alpha / live.sum())
        x = jnp.concatenate((start[None], h[:-1])) + c[..., None] * n
        flat, u = v.reshape(-1, v.shape[-1]), inputs.reshape(-1, I) if real else jax.nn.one_hot(inputs.reshape(-1), I)
        grad_out = jnp.einsum("sbo,sbn->on", dy, read)
        grads = (flat.T @ x.reshape(flat.shape), flat.T @ u, flat.sum(0), grad_out, dy.sum((0, 1)))
        norm = jnp.sqrt(sum((g**2).sum() for g in grads))
        scale = rate * jnp.minimum(1.0, threshold / norm)
        return tuple(w - scale * g for w, g in zip(weights, grads, strict=True)), None

    return jax.jit(jax.vmap(lambda weights, batches: jax.lax.scan(update, weights, batches)[0], in_axes=(0, 1)))


def run_jax(problem: Problem, updates: int) -> Tensor:
    """JAX, compiled for all updates of all members at once."""
    import jax.numpy as jnp

    algorithm, network = problem.algorithm, problem.start
    weights = tuple(
        jnp.asarray(p.numpy()) for p in (network.W_rec, network.W_in, network.b, network.W_out, network.b_out)
    )
    chunk = problem.chunk(0, updates, problem.seeds)
    mixed = bool((chunk.lengths < chunk.inputs.shape[2]).any())
    step = jax_update(algorithm.alpha(0), algorithm.learning_rate, algorithm.clip.threshold, problem.task.loss, mixed)
    batches = tuple(jnp.asarray(x.numpy()) for x in (chunk.inputs, chunk.targets, chunk.lengths))
    ended = step(weights, batches)
    return torch.cat([torch.from_numpy(np.array(w)).flatten(1) for w in ended], dim=1)


@dataclass(frozen=True)
class Peer:
    """Somebody who is timed: how much he does in a call, and whether omega is among it.

    Args:
        run: trains the networks of a problem.
        updates: of each member in one call, in the case of the targets.
        members: how many, where that is not for the case to say.
        omega: whether he computes it.
    """

    run: Run
    updates: int
    members: int | None = None
    omega: bool = True


PEERS = {
    "fused": Peer(run_engine(cpu), updates=50),
    "batched": Peer(run_engine(batched), updates=20),
    "jax": Peer(run_jax, updates=10, members=64),
    "vmap": Peer(run_vmap, updates=3),
    "nn_rnn": Peer(run_nn_rnn, updates=10, members=2, omega=False),
    "eager": Peer(run_eager, updates=5, members=2),
}


def check(case: Case, peers: Mapping[str, Peer]) -> None:
    """Refuse to time peers that compute something else: three updates must agree to float32's rounding.

    Raises:
        SystemExit: one ends at other parameters than the batched engine does; the message names it.
    """
    for name, peer in peers.items():
        problem = Problem(replace(case, members=2, algorithm=case.algorithm if peer.omega else "MSGD-C"))
        difference = (peer.run(problem, 3) - run_engine(batched)(problem, 3)).abs().max().item()
        if not difference < 1e-5:
            raise SystemExit(f"{name} trains to other parameters than batched does: they differ by {difference:.2e}")
