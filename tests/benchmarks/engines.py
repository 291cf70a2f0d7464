"""Time one whole update of one member, by us and by honest peers, side by side in one run: `make bench`.

A peer trains the same networks on the same batches with the same algorithm, and is first checked to reach the same
parameters. Rounds are interleaved, so that a busy machine slows everybody alike. Sampling is
included, validation is not.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import rnnlab
from rnnlab.engine import batched

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """What is timed: the design's case unless told otherwise."""

    task: str = "temporal order"
    algorithm: str = "MSGD-CR"
    N: int = 50
    B: int = 20
    T: int = 100
    members: int = 16


class Problem:
    """Networks and batches of a case, the same for everybody."""

    def __init__(self, case: Case) -> None:
        self.case, self.task, self.init = case, rnnlab.TemporalOrder(case.T), rnnlab.BasicTanh()
        self.sizes = rnnlab.Sizes(self.task.inputs, case.N, self.task.outputs)
        self.seeds = torch.arange(case.members)
        self.algorithm = rnnlab.Algorithm.named(case.algorithm)

    def parameters(self) -> rnnlab.Parameters:
        """Fresh parameters of every member."""
        return self.init.parameters(self.sizes, self.seeds.tolist())

    def chunk(self, first: int, updates: int, seeds: Tensor) -> rnnlab.Chunk:
        """Batches of `updates` updates from number `first`."""
        return self.task.chunk(seeds, torch.arange(first, first + updates), batch=self.case.B)


def run_batched(problem: Problem, members: int, updates: int) -> Tensor:
    """`rnnlab.engine.batched` on all members at once."""
    parameters = problem.parameters().select(slice(members))
    chunk = problem.chunk(0, updates, problem.seeds[:members])
    batched.sgd(parameters, chunk, sigma=problem.init.sigma, loss=problem.task.loss, algorithm=problem.algorithm)
    return parameters.theta


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


def run_eager(problem: Problem, members: int, updates: int) -> Tensor:
    """One member after another, one step after another, omega from autograd's total gradients."""
    algorithm, trained = problem.algorithm, []
    for m in range(members):
        network = Eager(problem.parameters().select([m]))
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


def run_nn_rnn(problem: Problem, members: int, updates: int) -> Tensor:
    """`torch.nn.RNN` with clipping and without omega: less work than the others do."""
    algorithm, trained = problem.algorithm, []
    for m in range(members):
        start = problem.parameters().select([m])
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
            u = nn.functional.one_hot(batch.inputs[0].long(), problem.sizes.inputs).float()
            optimizer.zero_grad()
            y = read(rnn(u)[1][0])
            nn.functional.cross_entropy(y, batch.targets[0, 0].long()).backward()
            nn.utils.clip_grad_norm_(weights, algorithm.clip.threshold)
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in weights]))
    return torch.stack(trained)


Run = Callable[[Problem, int, int], Tensor]
# A peer without omega is checked against our engine without omega. Peers that train one member at a time need no 16.
PEERS: dict[str, tuple[Run, bool, int, int]] = {
    "batched": (run_batched, True, 16, 20),
    "eager": (run_eager, True, 2, 3),
    "nn_rnn": (run_nn_rnn, False, 2, 5),
}


def check(case: Case) -> None:
    """Refuse to time peers that compute something else: three updates must agree to float32's rounding."""
    for name, (run, with_omega, _, _) in PEERS.items():
        problem = Problem(case if with_omega else Case(**{**asdict(case), "algorithm": "MSGD-C"}))
        difference = (run(problem, 2, 3) - run_batched(problem, 2, 3)).abs().max().item()
        if not difference < 1e-5:
            raise SystemExit(f"{name} trains to other parameters than batched does: they differ by {difference:.2e}")


def measure(case: Case, rounds: int) -> dict[str, object]:
    """Milliseconds of one update of one member for everybody, and ratios to the batched engine."""
    check(case)
    problem = Problem(case)
    times: dict[str, list[float]] = {name: [] for name in PEERS}
    for round_ in range(rounds + 1):
        for name, (run, _, members, updates) in PEERS.items():
            members = min(members, case.members)
            start = time.perf_counter()
            run(problem, members, updates)
            elapsed = (time.perf_counter() - start) / (members * updates) * 1e3
            if round_:  # the first warms up
                times[name].append(elapsed)
    ms = {name: (statistics.median(t), min(t), max(t)) for name, t in times.items()}
    return {
        "case": {**asdict(case), "rounds": rounds, "threads": torch.get_num_threads(), "machine": platform.machine()},
        "ms": ms,
        "ratio": {name: ms[name][0] / ms["batched"][0] for name in PEERS if name != "batched"},
    }


def main() -> None:
    """Print the table and write `_build/bench.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    arguments = parser.parse_args()
    result = measure(Case(), arguments.rounds)
    print(f"{'ms per update and member':26}{'median':>9}{'lowest':>9}{'highest':>9}{'x batched':>11}")
    for name, (median, low, high) in result["ms"].items():
        print(f"{name:26}{median:9.3f}{low:9.3f}{high:9.3f}{median / result['ms']['batched'][0]:11.1f}")
    target = ROOT / "_build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {target.relative_to(ROOT)}; case {result['case']}")


if __name__ == "__main__":
    main()
