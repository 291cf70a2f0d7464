"""How many of the small faults planted in what decides numbers the tests see: mutation testing, by Cosmic Ray.

    python -m tests.mutants

draws a sample of mutants, stratified by module, from Cosmic Ray's operators, all of them; runs for each the tests of
its module alone, and prints for each module how many were killed, the share of all with Wilson's interval, and what
survived; all that is kept in _build/mutants.json. A mutant that takes too long counts as a survivor, and so does one
that computes the same. Killed and started again it goes on, as long as no file has changed. On one free core a mutant
that is killed takes two to six seconds, and one that survives as long as all tests of its module.

What is mutated is a copy of the checkout, in _build/mutants. Cosmic Ray's own runner starts a process for each mutant,
which would import torch each time; here a process that has imported what the tests need forks one for each mutant.

No mutants are made where nothing is computed: in annotations, in the text of errors, in what only type checkers read,
and in the star of a signature, which Cosmic Ray takes for a product; docstrings it leaves alone by itself. A mutant
that Python cannot compile is none.
"""

import argparse
import ast
import contextlib
import difflib
import fnmatch
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "_build" / "mutants"
COPY = PLACE / "checkout"
FOUND = ROOT / "_build" / "mutants.json"

GOLDEN = "tests/test_golden.py"
REFUSALS = "tests/test_refusals.py::test_a_wrong_argument_is_refused_by_name_with_what_came_and_what_is_allowed"
# The first pattern that a module's path fits tells its tests, the quickest and sharpest first; a module of a folder
# that is named here is found when it is written.
ENGINES = "tests/engine/test_gradients.py"
TESTS: dict[str, tuple[str, ...]] = {
    "rnnlab/bits.py": ("tests/test_bits.py", GOLDEN, REFUSALS),
    "rnnlab/statistics.py": ("tests/test_statistics.py", REFUSALS),
    "rnnlab/network/*": ("tests/network", GOLDEN, "tests/engine/test_unrolled.py", ENGINES, REFUSALS),
    "rnnlab/tasks/*": (GOLDEN, "tests/tasks", REFUSALS),
    "rnnlab/descent/*": ("tests/descent", GOLDEN, ENGINES, REFUSALS),
    "rnnlab/engine/cpu/*": ("tests/engine/test_cpu.py", ENGINES, REFUSALS),
    "rnnlab/engine/known.py": ("tests/engine/test_known.py", "tests/engine/test_cpu.py", REFUSALS),
    "rnnlab/engine/unrolled.py": ("tests/engine/test_unrolled.py", ENGINES),
    "rnnlab/engine/*": ("tests/engine/test_contract.py", GOLDEN, ENGINES, "tests/engine/test_defaults.py", REFUSALS),
    "rnnlab/dynamics/*": ("tests/dynamics", REFUSALS),
    "rnnlab/training/*": (
        "tests/training/test_ensembles.py",
        "tests/training/test_records.py",
        "tests/training/test_loop.py",
        "tests/dynamics/test_backward.py",
        "tests/training",
        REFUSALS,
    ),
    "rnnlab/sweeps/*": (
        "tests/sweeps/test_summaries.py",
        "tests/sweeps/test_sweep.py",
        "tests/training/test_store.py",
        REFUSALS,
    ),
}
# These decide no numbers: they judge other people's tasks, choose, build or replay an engine, keep files, run
# and watch. What runs on a GPU cannot be tested without one.
LEFT_OUT = (
    "*/__init__.py",
    "rnnlab/tasks/conformance.py",
    "rnnlab/engine/choosing.py",
    "rnnlab/engine/graphs.py",
    "rnnlab/engine/cpu/kernel.py",
    "rnnlab/engine/cuda/*",
    "rnnlab/training/progress.py",
    "rnnlab/training/store.py",
    "rnnlab/sweeps/executors.py",
)
# Tests that take seconds and are about processes, files or instruction sets, or the last digit of any number.
SLOW = "killed interrupt processes instruction_sets compiler damaged readme threads any_scale"
# What the tests import, but for the package: once for all mutants.
IMPORTED = "torch numpy pandas xarray sympy beartype jaxtyping hypothesis.strategies pytest tqdm matplotlib"
LEAST = 5  # mutants of a module, if it has so many
MEMORY = 8 * 2**30  # bytes of a mutant that has lost its bounds


def tests_of(module: str) -> tuple[str, ...]:
    """Files and folders of the tests of a module; none if it decides no numbers."""
    if any(fnmatch.fnmatch(module, pattern) for pattern in LEFT_OUT):
        return ()
    given = next((tests for pattern, tests in TESTS.items() if fnmatch.fnmatch(module, pattern)), ())
    return tuple(test for test in given if (ROOT / test.partition("::")[0]).exists())


# Which mutants


def apart(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a source computes nothing: from and to, each a line and a column."""
    found: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
                found.append(annotation)
            case ast.FunctionDef(returns=returns):
                found.append(returns)
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                found.append(node)
            case ast.Raise():
                found += [part for part in ast.walk(node) if isinstance(part, ast.JoinedStr)]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
        if isinstance(node, ast.expr | ast.stmt)
    ]


def sought(source: str, items: Iterable[WorkItem]) -> list[WorkItem]:
    """The mutants of a source that change what it computes, as far as can be told without making them."""
    spans, lines = apart(source), source.splitlines()
    return [
        item
        for item in items
        for spec in item.mutations
        if not any(start <= tuple(spec.start_pos) < end for start, end in spans)
        and lines[spec.end_pos[0] - 1][spec.end_pos[1] :][:1] != ","  # the star of a signature
    ]


def mutant(source: str, spec: MutationSpec) -> str | None:
    """The mutated source; None where it is none, or the same program."""
    try:
        mutated = mutate_code(source, get_operator(spec.operator_name)(**spec.operator_args), spec.occurrence)
    except AttributeError:  # Cosmic Ray cannot replace an exception that is called by its module, too
        return None
    with warnings.catch_warnings(), contextlib.suppress(SyntaxError):
        warnings.simplefilter("ignore")  # of Python's compiler, for "1 is x"
        if mutated is not None and ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)):
            compile(mutated, "", "exec")
            return mutated
    return None


def sample(items: Iterable[WorkItem], *, size: int, seed: int) -> list[WorkItem]:
    """About so many mutants, from each module in proportion to its own, and a few at least."""
    of: dict[str, list[WorkItem]] = defaultdict(list)
    for item in items:
        of[str(item.mutations[0].module_path)].append(item)
    of = {module: sought(Path(module).read_text(encoding="utf8"), some) for module, some in sorted(of.items())}
    total = sum(map(len, of.values()))
    drawn = []
    for module, some in of.items():
        source, wanted = Path(module).read_text(encoding="utf8"), max(LEAST, -(-size * len(some) // total))
        order = sorted(some, key=lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence))
        random.Random(f"{seed} {module}").shuffle(order)
        made = (item for item in order if mutant(source, item.mutations[0]) is not None)
        drawn += [item for item, _ in zip(made, range(wanted), strict=False)]
    return drawn


# Trying them


def run(tests: Iterable[str], *, limit: float) -> tuple[TestOutcome, str]:
    """What these tests say of the copy as it now is: killed, or why not; in a process of its own."""
    output = PLACE / "output.txt"
    pid = os.fork()
    if pid == 0:
        _tests(tests, output)
    ends, done, status = time.monotonic() + limit, 0, 0
    try:
        while not done and time.monotonic() < ends:
            time.sleep(0.01)
            done, status = os.waitpid(pid, os.WNOHANG)
    finally:  # Ctrl-C among others
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if not done:
            os.waitpid(pid, 0)
    if not done:
        return TestOutcome.SURVIVED, f"timed out after {limit:.0f} s"
    said = output.read_text(encoding="utf8", errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code in (4, 5):  # pytest's, for its own arguments and for no tests
        raise RuntimeError(said)
    return (TestOutcome.KILLED if code else TestOutcome.SURVIVED), said[-4000:]


def _tests(tests: Iterable[str], output: Path) -> None:
    """Become a process that tests the copy."""
    code = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        here = {"", str(ROOT)}
        sys.path[:] = [str(COPY), *(path for path in sys.path if path not in here)]
        os.environ |= {"PYTHONPATH": str(COPY), "OMP_NUM_THREADS": "1"}
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "rnnlab")]:
            del sys.modules[name]

        import pytest

        kept = f"not ({' or '.join(SLOW.split())})"
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", "--tb=line"]
        code = int(pytest.main([*options, f"--basetemp={PLACE / 'temporary'}", "-k", kept, *tests], [Quick()]))
        assert code or str(sys.modules["rnnlab"].__file__).startswith(f"{COPY}/")
    finally:
        sys.stdout.flush()
        os._exit(code)


class Quick:
    """A plugin of pytest: a counterexample need not be small."""

    def pytest_collection(self) -> None:
        """Before the tests are imported, and after `conftest` chose its profile."""
        from hypothesis import Phase, settings

        settings.register_profile("mutants", settings(), phases=[Phase.explicit, Phase.generate], database=None)
        settings.load_profile("mutants")


def listed() -> list[str]:
    """Files of the checkout, by git."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


def copied() -> str:
    """Copy the checkout anew, and return a digest of it."""
    found = hashlib.sha256()
    shutil.rmtree(COPY, ignore_errors=True)
    for name in listed():
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, COPY / name)
        if name.startswith(("rnnlab/", "tests/")):
            found.update(f"{name}\0".encode() + (ROOT / name).read_bytes())
    return found.hexdigest()[:12]


def session(modules: list[str], *, size: int, seed: int, name: str) -> WorkDB:
    """A new one, or that which was begun: Cosmic Ray's, in which what is not in the sample is skipped."""
    path = PLACE / f"{name}.sqlite"
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        begun = WorkDB(part, WorkDB.Mode.create)
        init([Path(module) for module in modules], begun, {})
        drawn = {item.job_id for item in sample(begun.work_items, size=size, seed=seed)}
        skipped = [item.job_id for item in begun.work_items if item.job_id not in drawn]
        begun.set_multiple_results(skipped, WorkResult(WorkerOutcome.SKIPPED))
        begun.close()
        part.replace(path)
    return WorkDB(path, WorkDB.Mode.open)


def pursue(db: WorkDB) -> None:
    """Try all mutants of the sample that were not tried yet."""
    pending = sorted(db.pending_work_items, key=lambda item: str(item.mutations[0].module_path))
    whole: dict[tuple[str, ...], float] = {}
    for item in tqdm(pending, unit="mutant"):
        spec = item.mutations[0]
        path, tests = spec.module_path, tests_of(str(spec.module_path))
        if tests not in whole:
            began = time.monotonic()
            outcome, said = run(tests, limit=600)
            if outcome != TestOutcome.SURVIVED or time.monotonic() - began > 600:
                raise SystemExit(f"the tests of {path} fail without a mutant:\n{said}")
            whole[tests] = time.monotonic() - began
        source = path.read_text(encoding="utf8")
        mutated = mutant(source, spec)
        assert mutated is not None
        try:
            path.write_text(mutated, encoding="utf8")
            began = time.monotonic()
            outcome, said = run(tests, limit=20 + 5 * whole[tests])
        finally:
            path.write_text(source, encoding="utf8")
        told = json.dumps({"seconds": round(time.monotonic() - began, 1), "said": said})
        db.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, told, outcome, change(source, mutated)))


def change(source: str, mutated: str) -> str:
    """The lines that a mutant changes, without what they have in common."""
    before, after = source.splitlines(), mutated.splitlines()
    changes = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    return " -> ".join("; ".join(line[2:].strip() for line in changes if line[0] == sign) for sign in "-+")


# Telling


def summary(db: WorkDB) -> dict:
    """What came of a session, for people and programs."""
    from rnnlab.statistics import wilson

    tried = [(i.mutations[0], r) for i, r in db.completed_work_items if r.worker_outcome == WorkerOutcome.NORMAL]
    killed = Counter(str(spec.module_path) for spec, result in tried if result.test_outcome == TestOutcome.KILLED)
    of = Counter(str(spec.module_path) for spec, _ in tried)
    made = Counter(str(item.mutations[0].module_path) for item in db.work_items)
    low, high = wilson(killed.total(), of.total())
    survivors = [
        {
            "where": f"{spec.module_path}:{spec.start_pos[0]}",
            "operator": spec.operator_name.partition("/")[2],
            "change": result.diff,
            "timed_out": json.loads(result.output or "{}")["said"].startswith("timed out"),
        }
        for spec, result in sorted(tried, key=lambda pair: (str(pair[0].module_path), pair[0].start_pos))
        if result.test_outcome == TestOutcome.SURVIVED
    ]
    return {
        "modules": {name: {"made": made[name], "tried": of[name], "killed": killed[name]} for name in sorted(of)},
        "tried": of.total(),
        "killed": killed.total(),
        "score": killed.total() / of.total(),
        "wilson95": [low, high],
        "seconds": sum(json.loads(result.output or "{}")["seconds"] for _, result in tried),
        "survivors": survivors,
    }


def told(found: dict) -> Iterator[str]:
    """The lines that are printed."""
    yield f"{'module':40} {'killed':>6} of {'tried':>5}"
    for name, of in found["modules"].items():
        yield f"{name:40} {of['killed']:6} of {of['tried']:5}"
    low, high = found["wilson95"]
    yield f"killed {found['killed']} of {found['tried']}: {found['score']:.1%}, Wilson 95 % {low:.1%} to {high:.1%}"
    yield f"survivors ({found['seconds']:.0f} s in all):"
    for one in found["survivors"]:
        yield f"{one['where']}: {one['change']}{'  (timed out)' if one['timed_out'] else ''}"


def main(only: list[str], *, size: int, seed: int) -> None:
    """Draw, try and tell."""
    PLACE.mkdir(parents=True, exist_ok=True)
    digest = copied()
    os.chdir(COPY)
    sys.dont_write_bytecode = True  # a mutant is as old as what it was made of, and often as long
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    modules = sorted(str(path) for path in Path("rnnlab").rglob("*.py") if tests_of(str(path)))
    chosen = [name for name in modules if any(fnmatch.fnmatch(name, pattern) for pattern in only or ["*"])]
    asked = hashlib.sha256(repr((digest, chosen, size, seed)).encode()).hexdigest()[:12]
    db = session(chosen, size=size, seed=seed, name=asked)
    for name in IMPORTED.split():
        importlib.import_module(name)
    pursue(db)
    found = summary(db)
    FOUND.write_text(json.dumps(found, indent=1) + "\n")
    print(*told(found), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="patterns of modules, like rnnlab/network/*; all unless given")
    parser.add_argument("--sample", type=int, default=400, help="mutants, about; 400 unless given")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.only, size=given.sample, seed=given.seed)
