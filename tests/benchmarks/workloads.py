"""Updates of the tasks that the engine's first case does not stand for: real inputs, outputs at every step, many units.

All work is done on one core, and what counts is the time that it spends on us: ratios are those of a core's work.
Useful are products with W_rec, three a step, with W_in for real inputs, two, and with W_out where the loss is at every
step, three; a symbol's gather is none.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from tqdm import tqdm

from tests.benchmarks import costs
from tests.benchmarks.peers import PEERS, Case, check
from tests.benchmarks.timing import Target, Trial, one_core, problem_of, product, rounds_of, sample

CASES = {
    "addition": Case("addition"),
    "memorization": Case("noiseless memorization"),
    "permutation": Case("random permutation", N=100),
    "rolls, B 1": Case("rolls", N=300, B=1, T=200, members=2),
    "rolls, B 16": Case("rolls", N=300, B=16, T=200, members=2),
    "characters, B 1": Case("characters", N=500, B=1, T=180, members=2),
    "characters, B 16": Case("characters", N=500, B=16, T=180, members=2),
}
COMPARED = {"fused": 20, "batched": 8, "jax": 4, "nn_rnn": 2}  # updates of 16 members, of 20 sequences, 100 steps
FLOORS = dict(zip(CASES, (0.7, 0.7, 0.7, 0.5, 0.6, 0.5, 0.6), strict=True))
TARGETS = {
    **{f"{name}: product": Target(f"{name}: useful operations over PyTorch's", low) for name, low in FLOORS.items()},
    **{f"{name}: nn_rnn": Target(f"{name}: `nn.RNN` over fused", 3) for name in CASES if name.endswith("B 1")},
}


def trials(case: Case) -> list[Trial]:
    """Peers at a case: the more work an update is, the fewer there are."""
    share = 16 * 20 * 100 * 50**2 / (case.members * case.B * case.T * case.N**2)
    found = [
        Trial(name, PEERS[name].run, case, max(2, min(round(updates * share), 8 * updates)))
        for name, updates in COMPARED.items()
        if name in PEERS
    ]
    whole = found[0].updates
    return [*found, Trial("sampling", sample, case, whole), Trial("product", product, replace(case, members=1), 3)]


def useful(trial: Trial) -> float:
    """Operations of an update of one member that count, at the mean length of the trial's batches."""
    problem, case = problem_of(trial.case), trial.case
    task, lengths = problem.task, problem.chunk(0, trial.updates, problem.seeds).lengths
    I, O = 0 if task.symbols else task.inputs, task.outputs if task.loss.every_step else 0
    return costs.useful(B=case.B, N=case.N, T=lengths.double().mean().item(), I=I, O=O)


def check_all(cases: Mapping[str, Case]) -> None:
    """Refuse to time peers that compute something else."""
    for case in cases.values():
        check(case, {name: PEERS[name] for name in COMPARED if name in PEERS})


def calls(case: Case) -> int:
    """How many calls a round has."""
    return len(trials(case))


def measured(case: Case, rounds: int, bar: tqdm) -> dict[str, object]:
    """Everything about a case: times in ms, and useful operations of a second over those of torch's product."""
    timed = trials(case)
    with one_core():
        ms = rounds_of(timed, rounds, bar, time.process_time)
    rate = 2 * 1024**3 / ms["product"][0]
    return {
        **asdict(case),
        "ms": ms,
        "useful": useful(timed[0]),
        "share": {t.name: useful(t) / ms[t.name][0] / rate for t in timed if t.name in COMPARED},
    }


def ratios(found: Mapping[str, Mapping]) -> dict[str, float]:
    """What the targets are about."""
    every: dict[str, float] = {}
    for name, one in found.items():
        every[f"{name}: product"] = one["share"]["fused"]
        every[f"{name}: nn_rnn"] = one["ms"]["nn_rnn"][0] / one["ms"]["fused"][0]
    return {name: ratio for name, ratio in every.items() if name in TARGETS}


def table(found: Mapping[str, Mapping]) -> Iterator[str]:
    """The lines to print."""
    for name, one in found.items():
        each = [
            f"{who} {ms:.3f} ms" + (f" ({one['share'][who]:.0%})" if who in one["share"] else "")
            for who, (ms, _, _) in one["ms"].items()
        ]
        yield f"{name}: {', '.join(each)}"
