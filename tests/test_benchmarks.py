"""`make bench` times what it says, holds what was asked for, and refuses a peer that computes something else."""

import json
import time
from dataclasses import replace

import pytest
import torch
from tqdm import tqdm

from rnnlab.engine import batched
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from tests.benchmarks import engines, roofline
from tests.benchmarks.peers import PEERS, Case, Peer, check, run_engine, run_nn_rnn

TINY = Case(N=6, B=2, T=10, members=2)
# JAX is no part of the tests' environment.
HERE = {name: peer for name, peer in PEERS.items() if name != "jax"}


def silent():
    return tqdm(disable=True)


def test_every_peer_trains_to_the_same_parameters():
    check(TINY, HERE)


def half(problem, updates):
    """An engine that does half of its updates."""
    return run_engine(batched)(problem, updates // 2)


def nan(problem, updates):
    """An engine that diverges."""
    return run_engine(batched)(problem, updates) * float("nan")


@pytest.mark.parametrize("run", [half, nan, run_nn_rnn])
def test_a_peer_that_computes_something_else_is_refused(run):
    with pytest.raises(SystemExit, match="planted trains to other parameters than batched does"):
        check(TINY, HERE | {"planted": Peer(run, updates=3)})  # nn.RNN, too, if it claims to compute omega


def test_a_bench_holds_what_was_asked_for(monkeypatch):
    some = {name: change for name, change in engines.variants().items() if name in ("strides at run time", "avx2")}
    monkeypatch.setattr(engines, "variants", lambda: some)
    monkeypatch.setattr(engines, "PEERS", {name: replace(peer, updates=1) for name, peer in HERE.items()})
    grid = [replace(TINY, members=members) for members in (1, 16)]
    result = json.loads(json.dumps(engines.measure(TINY, 1, grid, silent())))
    assert {"date", "machine", "versions", "case", "ms", "ratio", "cases", "roofline", "kernel"} <= result.keys()
    assert result["case"] | {"N": 6, "B": 2, "T": 10, "members": 2, "rounds": 1} == result["case"]
    ratios = {"vmap", "nn_rnn", "batched", "eager", "eager_per_core", "matmul", "memory_per_member", "first_compile_s"}
    assert ratios | ({"eager_avx2"} & {f"eager_{name}" for name in some}) <= result["ratio"].keys()
    assert result["ms"].keys() == {*HERE, *({"avx2"} & some.keys())}
    assert [case["members"] for case in result["cases"]] == [1, 16]
    assert {"fused", "eager", "sampling", "linear units", "without omega", *some} <= result["one_core"]["ms"].keys()
    for median, low, high in result["ms"].values():
        assert 0 < low <= median <= high
    assert result["ratio"]["eager"] == result["ms"]["eager"][0] / result["ms"]["fused"][0]
    assert {"processor", "avx512", "cores", "caches"} == result["machine"].keys()
    assert {"python", "torch", "jax", "compiler"} == result["versions"].keys()
    printed = "\n".join(engines.table(result))
    assert [name for name in HERE if f"\n{name} " not in printed or f"\n{name}, one core " not in printed] == []


def test_a_target_is_met_from_its_bound_on_and_a_cost_up_to_it():
    gain, cost = engines.Target("gain", 8, 15), engines.Target("cost", 3, 2, unit=1e6, cost=True)
    assert [gain.verdict(x) for x in (7.9, 8, 14.9, 15)] == ["floor missed", "floor met", "floor met", "aim met"]
    assert [cost.verdict(x) for x in (3.1e6, 3e6, 2.1e6, 2e6)] == ["floor missed", "floor met", "floor met", "aim met"]
    assert engines.Target("no aim", 30).verdict(1e9) == "floor met"


def test_a_time_is_that_of_one_update_of_one_member():
    trial = engines.Trial("slow", lambda problem, updates: time.sleep(0.05 * updates * 2), TINY, updates=3)
    assert 50 <= trial.ms() < 100


def test_rounds_are_interleaved_and_the_first_does_not_count():
    calls = []

    def run(name, problem, updates):
        time.sleep(0.2 if len(calls) < 2 else 0)
        calls.append(name)

    timed = [engines.Trial(name, lambda p, u, name=name: run(name, p, u), TINY, 1) for name in "ab"]
    times = engines.rounds_of(timed, 3, silent())
    assert calls == list("abababab")
    assert all(high < 100 for _, _, high in times.values())  # each first one took 200 ms, over two members


def test_a_variant_is_another_kernel_and_leaves_the_engine_its_own():
    before = kernel.library(6)
    name = "strides at run time"
    assert engines.build(name, 50)._name != kernel.library(50)._name
    assert engines.build(name, 6)._name == before._name  # small networks have no other
    if "avx2" in engines.variants() and kernel.instruction_set() != "avx2":
        assert engines.build("avx2", 6)._name != before._name
    assert kernel.library(6)._name == before._name
    problem = engines.problem_of(TINY)
    assert torch.equal(engines.run_variant(name)(problem, 3), run_engine(cpu)(problem, 3))
    assert cpu.library is kernel.library


def test_traffic_counts_what_is_read_and_written_and_no_views():
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    with engines.Traffic() as counted:
        (a @ b).T.reshape(4, 6).relu_()
    # The product; the copy that a reshaped transpose is; a number in its place, once.
    assert counted.bytes == 4 * (20 + 30 + 24) + 4 * (24 + 24) + 4 * 24


def test_the_ceilings_of_a_core_are_above_what_torch_does():
    found = roofline.measure()
    sizes = [size for size, _ in found["reading"]]
    assert (sizes[0], sizes[-1], len(sizes)) == (8 << 10, 256 << 20, 16)
    assert all(bandwidth > 0 for _, bandwidth in found["reading"])
    assert found["reading"][0][1] > found["reading"][-1][1]
    a, seconds = torch.ones(384, 384), []
    with engines.one_thread():
        for _ in range(200):
            start = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - start)
    # Torch's product is a good one, by vectors of one of these widths, but not always the widest (MKL on AMD); twice as
    # much or half would be a ceiling of something else.
    shares = [2 * 384**3 / min(seconds) / ceiling for ceiling in found["multiply_adds"].values()]
    assert min(shares) < 1.05
    assert any(0.6 < share < 1.05 for share in shares)


def test_the_processor_and_its_caches_are_named():
    assert isinstance(roofline.processor()["processor"], str)
    sizes = list(roofline.caches().values())
    assert sizes == sorted(sizes)
