"""`make bench` times what it says, holds what was asked for, and refuses a peer that computes something else."""

import json
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from rnnlab.engine import batched
from rnnlab.engine.cpu import fused as cpu
from rnnlab.engine.cpu import kernel
from rnnlab.tasks.conformance import check_task
from tests.benchmarks import costs, engines, roofline, timing, workloads
from tests.benchmarks.corpora import CORPORA
from tests.benchmarks.peers import PEERS, Case, Peer, check, run_engine, run_nn_rnn

TINY = Case(N=6, B=2, T=10, members=2)
BOOK = Path(__file__).parents[1] / "book"
STORED = {
    name: json.loads((BOOK / "results" / f"{name}.json").read_text()) for name in ("engine", "engine_gpu_offline")
}
# JAX is no part of the tests' environment.
HERE = {name: peer for name, peer in PEERS.items() if name != "jax"}
SMALL = {name: replace(case, N=6, B=2, T=10, members=2) for name, case in workloads.CASES.items()}


def silent():
    return tqdm(disable=True)


def test_every_peer_trains_to_the_same_parameters():
    check(TINY, HERE)


@pytest.mark.parametrize("name", SMALL)
def test_every_peer_of_another_workload_trains_to_the_same_parameters(name):
    check(SMALL[name], {peer: HERE[peer] for peer in workloads.COMPARED if peer in HERE})


@pytest.mark.parametrize("name", CORPORA)
def test_a_stand_in_for_a_corpus_is_a_task(name):
    task = CORPORA[name](12)
    assert check_task(task) == []
    drawn = task.chunk(torch.arange(2), torch.arange(3), batch=4)
    follows = drawn.inputs[:, :, 1:] == drawn.targets[:, :, :-1]  # what is to be told at a step is what the next holds
    assert follows.all()


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
    for module in (engines, workloads):
        monkeypatch.setattr(module, "PEERS", {name: replace(peer, updates=1) for name, peer in HERE.items()})
    grid = [replace(TINY, members=members) for members in (1, 16)]
    loads = {name: SMALL[name] for name in ("addition", "characters, B 1")}
    result = json.loads(json.dumps(engines.measure(TINY, 1, grid, loads, silent())))
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
    for load in result["workloads"].values():
        rate = 2 * 1024**3 / load["ms"]["product"][0]
        assert load["share"]["fused"] == pytest.approx(load["useful"] / load["ms"]["fused"][0] / rate)
    ratios = {"addition: product", "characters, B 1: product", "characters, B 1: nn_rnn"}
    assert ratios <= result["ratio"].keys() & result["targets"].keys()
    assert {"processor", "avx512", "cores", "caches"} == result["machine"].keys()
    assert {"python", "torch", "jax", "compiler"} == result["versions"].keys()
    printed = "\n".join(engines.table(result))
    assert all(f"\n{name}: fused " in printed for name in loads)
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


def test_useful_are_products_of_recurrent_weights_and_those_of_real_inputs_and_of_outputs_at_every_step():
    assert costs.useful(B=2, N=5, T=3, I=4, O=7) == 2 * 3 * 2 * (3 * 5 * 5 + 2 * 5 * 4 + 3 * 5 * 7)

    def counted(name):
        return workloads.useful(engines.Trial("", run_nn_rnn, SMALL[name], updates=1))

    assert counted("permutation") == 2 * 10 * 2 * 3 * 6 * 6  # symbols, and a loss at the end
    assert counted("memorization") == 2 * (10 + 2 * 10) * 2 * (3 * 6 * 6 + 3 * 6 * 6)  # six classes
    assert counted("characters, B 16") == 2 * 10 * 2 * (3 * 6 * 6 + 3 * 6 * 50)
    assert counted("rolls, B 1") == 2 * 10 * 2 * (3 * 6 * 6 + 2 * 6 * 88 + 3 * 6 * 88)
    # Two real inputs; lengths of 10 to 10, since a tenth of them is one.
    assert counted("addition") == 2 * 10 * 2 * (3 * 6 * 6 + 2 * 6 * 2)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound to a core here")
def test_one_core_is_that_of_all_threads_until_the_end():
    before, bound, go_on = os.sched_getaffinity(0), [], threading.Event()

    def see():
        go_on.wait()
        bound.append(os.sched_getaffinity(0))

    seen = threading.Thread(target=see)
    seen.start()
    with timing.one_core():
        bound.append(os.sched_getaffinity(0))
        made = torch.get_num_threads()
        go_on.set()
        seen.join()
    assert made == 1
    assert bound[0] == bound[1]
    assert len(bound[0]) == 1
    assert os.sched_getaffinity(0) == before


def test_a_variant_is_another_kernel_and_leaves_the_engine_its_own():
    before = kernel.library(6)
    name = "strides at run time"
    assert engines.build(name, 50)._name != kernel.library(50)._name
    assert engines.build(name, 6)._name == before._name  # small networks have no other
    if "avx2" in engines.variants() and kernel.instruction_set() != "avx2":
        assert engines.build("avx2", 6)._name != before._name
    assert kernel.library(6)._name == before._name
    problem = timing.problem_of(TINY)
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


# What the book shows of the raw numbers

ALONE = {
    "fused": 2.0,
    "linear units": 1.5,
    "without omega": 1.75,
    "sampling": 0.25,
    "8 lanes": 3.0,
    "product": 1024**3 / 1e9,
}
BENCH = {
    "case": {"N": 2, "B": 3, "T": 5, "members": 4, "rounds": 1},
    "machine": {"processor": "P", "avx512": False, "cores": 2, "caches": {"L1": 8, "L2": 16, "L3": 32}},
    "versions": {"jax": "1"},
    "date": "today",
    "ms": {"fused": [2, 1, 3], "eager": [5, 4, 6], "jax": [4, 3, 6]},
    "ratio": {"matmul": 0.5, "eager": 2.5, "jax": 2, "memory_per_member": 3e6},
    "targets": {"a": {"what": "A", "verdict": "floor missed"}, "b": {"what": "B", "verdict": "aim met"}},
    "one_core": {
        "ms": {name: [9, low, 99] for name, low in (ALONE | dict.fromkeys(costs.POINTS, 10.0)).items()},
        "sizes": [{"N": 2, "T": 5, "fused": [9, 2, 9]}, {"N": 2, "T": 10, "fused": [9, 5, 9]}],
    },
    "bytes": dict.fromkeys(costs.POINTS, 720.0),
    "kernel": {"lanes": 4, "panel": 2, "rows": 3, "width": {"2": 4}},
    "roofline": {
        "multiply_adds": {"8": 2e9, "16": 4e9},
        "reading": [[4, 8e9], [8, 6e9], [16, 4e9], [32, 3e9], [64, 1e9]],
    },
    "cases": [{"ms": {"fused": [1, 1, 1], "jax": [times, 1, 1]}} for times in (2, 7)],
}


def test_a_roofline_has_useful_operations_against_bytes_moved_and_seconds():
    found = costs.derived(BENCH)
    # Three products of 3 x 2 by 2 x 2 in each of 5 steps, two operations each; six passes over 3 x 4 numbers a step.
    assert (costs.useful(B=3, N=2, T=5), costs.moved(B=3, width=4, T=5)) == (3 * 5 * 3 * 2 * 2 * 2, 6 * 5 * 3 * 4 * 4)
    assert found["rates"] == {"multiply-adds in registers": 4e9, "PyTorch's product": pytest.approx(2e12)}
    assert found["bandwidths"] == {"L1": 8e9, "L2": 6e9, "L3": 4e9, "memory": 1e9}
    ours, longer, *others = found["points"]
    assert ours == ("fused", 2, 360 / 1440, pytest.approx(360 / 2e-3))
    assert longer == ("fused", 2, 720 / 2880, pytest.approx(720 / 5e-3))
    assert others == [(who, 2, 360 / 720, pytest.approx(360 / 10e-3)) for who in costs.POINTS.values()]
    assert found["jax_per_core"] == pytest.approx(360 / 3e-3 / 2)


def test_the_rows_of_the_page_are_ratios_of_the_least_times_and_parts_that_sum_to_the_whole():
    found = costs.derived(BENCH | {"roofline": BENCH["roofline"] | {"multiply_adds": {"8": 1e6, "16": 1e6}}})
    ceiling = costs.rates(BENCH)["PyTorch's product"]
    assert [(times, *ms) for _, *ms, times in found["peers"]] == [(1, 2, 1, 3), (2, 4, 3, 6), (2.5, 5, 4, 6)]
    assert found["variants"] == [(costs.VARIANTS["8 lanes"], 3, 0.5)]
    parts = [ms for _, ms, _ in found["parts"]]
    products = 360 / ceiling * 1e3
    assert parts == pytest.approx([products, products, 0.5, 0.25, 0.25, 1 - 2 * products, 2])
    assert [share for *_, share in found["parts"]] == pytest.approx([ms / 2 for ms in parts])


def test_the_prose_tells_what_the_raw_numbers_come_to():
    told = costs.told(BENCH)
    want = {"ms L2": 1440 / 6e9 * 1e3, "ms memory": 1440 / 1e9 * 1e3, "small L3": 4 * 4e9 / 4e9, "kB L2": 16 / 1024}
    want |= {"least": 2, "most": 7, "longer": 2.5, "held": 3, "kB weights": 32 / 1024, "kB step": 48 / 1024}
    want |= {"kB history": 12 * 48 / 1024, "moved": 1440 / 1e6, "padding": 0.5, "ms bytes": 720 / 6e9 * 1e3, "each": 24}
    want |= {"both": 11, "matrix": 2e3, "matrix share": 500, "ceiling": 1e-3, "does": 360 / 2e-3 / 2e12, "peak 8": 2}
    assert {name: told[name] for name in want} == pytest.approx(want)
    assert (told["missed"], told["vector"], told["version jax"]) == ("A", "without AVX-512", "1")


def test_what_the_book_shows_of_its_stored_benchmarks_is_what_their_raw_numbers_come_to_and_all_of_it_is_told():
    stored = STORED["engine"] | {"derived": None}, STORED["engine_gpu_offline"] | {"derived": None}
    shown = json.loads(json.dumps([costs.derived(stored[0]), costs.bounded(stored[1])]))
    assert shown == [file["derived"] for file in STORED.values()]
    page = (BOOK / "6_lab" / "engine.md").read_text(encoding="utf8")
    assert {name for part in shown for name in part["told"]} <= set(re.findall(r"{glue:text}`([^`:]+)", page))


def test_a_bound_on_a_gpu_is_one_instruction_a_cycle_from_each_scheduler_and_registers_bound_the_blocks():
    report = STORED["engine_gpu_offline"]
    for case in report["cases"]:
        gpu, loops = report["gpus"][case["gpu"]], case["loops"].values()
        assert case["cycles"] == pytest.approx(case["step"]["all"] / 4, abs=1)
        bound = gpu["multiprocessors"] * gpu["clock"] / (case["step"]["all"] / 4)
        assert case["network_steps_per_second"] == pytest.approx(bound, rel=1e-3)
        assert case["precision"] != "ieee" or not any(loop["HMMA"] for loop in loops)  # float32 is float32
        assert case["limit"] is not None or not any(loop["LDL"] + loop["STL"] for loop in loops)  # nothing is spilled
    found = costs.bounded(report)
    some = [costs.bounded(report | {"cases": [report["cases"][0] | {"registers": n}]}) for n in (128, 129, 161)]
    assert [one["told"]["resident"] for one in some] == [4, 3, 3]  # of 65,536, in eights for each of 128 threads
    assert found["bounds"][0] == ("H200, 50 units, MSGD-CR", 161, 0, 3946, 66.229965)
    assert found["bounds"][8][0] == "H200, 50 units, MSGD-CR, addition"
    assert [name.split(", ", 3)[3] for name, *_ in found["bounds"][-2:]] == ["at most 128 registers", "tf32x3"]
