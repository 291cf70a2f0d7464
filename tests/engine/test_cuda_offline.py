"""What can be said of the fused GPU engine where there is no GPU: its machine code, and that its benchmark runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.engine.test_cuda import needs_interpreter, needs_triton

ROOT = Path(__file__).parents[2]
SYMBOLS = [{}, {"N": 100, "arch": 80}]  # `book/results` has more
MORE = [{"more": True}, {"more": True, "task": "addition"}]
CASES = [*SYMBOLS, *MORE, {"N": 10, "precision": "tf32x3"}]
SHARED = 163 * 1024  # bytes that a block may have on sm_80


def run(*arguments):
    """A module in a process of its own: see `cuda_cases`."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_triton
def test_no_kernel_of_symbols_spills_no_time_loop_spills_and_float32_is_float32(tmp_path, monkeypatch):
    """Real inputs may spill a little outside the loops over steps, once an update."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    report = json.loads(run("tests.benchmarks.offline", json.dumps(CASES)))
    *exact, split = report["cases"]
    for case in exact:
        assert set(case["loops"]) == {"forward", "backward", "collect"}
        padded = 128 if case["N"] > 64 else 64
        for phase, loop in case["loops"].items():
            assert loop["LDL"] == loop["STL"] == 0, (case, phase)
            assert loop["HMMA"] == 0
            products = 32 * padded * padded / (32 * case["warps"])  # of a warp: a block of 32 by N, times N by N
            assert products <= loop["FFMA"] <= 1.4 * products
        # prepare, with noise disturb, forward, score, backward, collect, descend, and the next update
        assert case["phases"] == 7 + case["more"]
        assert case["stack"] <= (64 if case["task"] == "addition" else 0)
        assert case["shared"] <= SHARED
    assert min(loop["HMMA"] for loop in split["loops"].values()) > 0  # what is looked for above is found where it is


@needs_interpreter
def test_the_benchmark_runs_dry_to_the_end_and_goes_on_where_it_was_stopped(tmp_path):
    target = tmp_path / "bench.json"
    said = run("tests.benchmarks.gpu", "--dry", "--to", str(target))
    first = json.loads(target.read_text())
    assert said.splitlines()[-1] == f"{len(first['measured'])} measurements made; written to {target}"
    assert {m["who"] for m in first["measured"].values()} >= {"fused", "graph", "nn_rnn"}
    assert {m["precision"] for m in first["measured"].values()} == {"ieee", "tf32x3"}
    assert all(m["network_steps_per_second"] > 0 for m in first["measured"].values())
    graph = next(name for name, m in first["measured"].items() if m["who"] == "graph")
    kept = {name: m for name, m in first["measured"].items() if name != graph}
    target.write_text(json.dumps(first | {"measured": kept}))
    assert "1 measurements made" in run("tests.benchmarks.gpu", "--dry", "--to", str(target))
    second = json.loads(target.read_text())["measured"]
    assert second.keys() == first["measured"].keys()
    assert kept == {name: m for name, m in second.items() if name != graph}


@needs_triton
def test_the_benchmark_says_in_one_line_that_it_needs_a_gpu():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.benchmarks.gpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "bench-gpu needs a GPU, and PyTorch reaches none here; --dry tries it in Triton's interpreter"
    ]
