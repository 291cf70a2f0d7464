"""Stored results: what a manifest asks for, which networks stand for which, and how they are made, and made again."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from rnnlab import INITS, Addition, Algorithm, NoClip, Spec, Store, train
from rnnlab.__main__ import main
from rnnlab.naming import digest
from rnnlab.sweeps import making, results
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.sweeps.sweep import run as sweep
from rnnlab.training.records import totals

ROOT = Path(__file__).parents[2]
BASE = {"units": 6, "batch": 4, "updates": 30, "check_every": 10, "check_sequences": 50, "confirm_sequences": 50}
LUCKY = BASE | {"units": 20, "batch": 20, "updates": 3_000, "check_every": 500, "check_sequences": 200}
ONE = {"pages": [], "why": "a try", "priority": 1, "base": BASE, "axes": {"length": [10, 12]}, "seeds": 2}


def written(folder: Path, **results: dict) -> Path:
    (folder / "manifest.yml").write_text(yaml.safe_dump(results))
    return folder


def done(folder: Path, **how) -> list:
    store = how.pop("store", None) or Store(folder / "store")
    return [(job.labels, job.seeds, made) for job, made in making.run(folder, store=store, device="cpu", **how)]


def test_a_summary_has_no_columns_of_other_results_networks(tmp_path):
    rated = ONE | {"base": BASE | {"rate": {"type": "Halving", "series": "error"}}, "axes": {"length": [11]}}
    done(written(tmp_path, plain=ONE, rated=rated))
    before, every = read_summary(tmp_path / "plain.summary"), results.table(tmp_path.glob("*.summary"))
    assert "learning_rate" in every
    assert "learning_rate" in read_summary(tmp_path / "rated.summary")
    (tmp_path / "plain.summary").unlink()
    making.add(tmp_path, results.manifest(tmp_path)["plain"], every)
    assert set(read_summary(tmp_path / "plain.summary").variables) == set(before.variables)


def test_a_manifest_is_sweeps_by_name_the_most_urgent_first(tmp_path):
    second = ONE | {
        "base": BASE | {"init": "smart tanh", "task": {"type": "Addition", "length": [10, 21]}},
        "seeds": [7],
    }
    second |= {"axes": {"algorithm": ["MSGD-C", "MSGD"], "threshold": {"low": 0.5}}, "priority": 0.5, "theta": True}
    second["axes"] = {"algorithm": ["MSGD-C"], "threshold": {"low": 0.5, "high": 2}}
    first, last = results.manifest(written(tmp_path, last=ONE, first=second)).values()
    assert (last.name, last.seeds, last.theta, last.specs.dims) == ("last", [0, 1], False, ("length",))
    assert (first.name, first.seeds, first.theta, first.specs.dims) == ("first", [7], True, ("algorithm", "threshold"))
    want = Spec(
        **BASE, init=INITS["smart tanh"](), task=Addition((10, 21)), algorithm=Algorithm.named("MSGD-C", threshold=2)
    )
    assert first.specs.sel(algorithm="MSGD-C", threshold="high").item() == want
    assert list(results.manifest(tmp_path, only=["last"])) == ["last"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", r"manifest\.yml must be YAML: "),
        ("[1]", r"manifest\.yml must hold results by name, got \[1\]"),
        ("a: 1", r"a must have pages, why, priority, base, axes, seeds, and may have checks, theta, got 1"),
        (yaml.safe_dump({"a": {"make": {}, "seeds": 2}}), r"a must have pages, why, priority, make, hours, and "),
        (
            yaml.safe_dump({"a": ONE | {"seed": 1}}),
            r"a must have .*, got axes, base, pages, priority, seed, seeds, why",
        ),
        (yaml.safe_dump({"a": ONE | {"seeds": 0}}), r"a must ask for networks that can be trained: seeds must be "),
        (
            yaml.safe_dump({"a": ONE | {"axes": {"lenght": [10]}}}),
            r"a must ask .*: lenght must lead to a field of a spec",
        ),
        (yaml.safe_dump({"a": ONE | {"axes": {"length": [5]}}}), r"a must ask .*: length must be at least 10"),
        (yaml.safe_dump({"a": ONE | {"base": {"unit": 5}}}), r"a must ask .*: .*unexpected keyword argument 'unit'"),
        (yaml.safe_dump({"a": ONE | {"base": {"task": {"type": "Adition"}}}}), r"a must ask .*'Adition'"),
        (yaml.safe_dump({"a": ONE | {"base": {"task": {"type": "train"}}}}), r"a must ask .*: train is no value"),
        (
            yaml.safe_dump({"a": ONE | {"base": {"init": "tanh"}}}),
            r"a must ask .*: init must be 'sigmoid', 'basic tanh' or",
        ),
    ],
)
def test_a_manifest_that_asks_for_what_cannot_be_is_refused_in_a_sentence(text, said, tmp_path):
    (tmp_path / "manifest.yml").write_text(text)
    with pytest.raises(ValueError, match=said):
        results.manifest(tmp_path)


def test_nothing_but_a_result_of_the_manifest_can_be_asked_for(tmp_path):
    with pytest.raises(ValueError, match="only must be of one, got 'two'"):
        results.manifest(written(tmp_path, one=ONE), only=["two"])
    with pytest.raises(ValueError, match="name must be of a result of which something is finished, got 'one'"):
        results.stored(tmp_path, "one")
    with pytest.raises(FileNotFoundError):
        results.manifest(tmp_path / "none")


def test_what_is_missing_is_trained_shortest_first_and_is_what_training_it_gives(tmp_path):
    made = done(written(tmp_path, one=ONE), chunk=1)
    assert [(labels["length"], seeds) for labels, seeds, _ in made] == [(10, [0]), (10, [1]), (12, [0]), (12, [1])]
    kept = results.stored(tmp_path, "one")
    assert kept["run"].dims == ("length", "seed")
    for length in (10, 12):
        spec = results.manifest(tmp_path)["one"].specs.sel(length=length).item()
        alone = totals(train(spec, seeds=2, device="cpu"))
        cell = kept.sel(length=length)
        assert cell["spec"].values.tolist() == [spec.canonical()] * 2
        assert cell["digest"].values.tolist() == [digest(row.tobytes().hex()) for row in alone["theta"].values]
        for name in ("run", "final_error", "first_below_1_percent", "final_rho", "largest_norm", "fresh_error"):
            np.testing.assert_array_equal(cell[name], alone[name])
        np.testing.assert_allclose(cell["rho"], alone["rho"], rtol=2**-11)
        for name in ("error", "final_error", "largest_norm", "update"):
            assert cell[name].attrs == alone[name].attrs
    assert kept.attrs["command"] == "rnnlab results run --only one"
    assert kept.attrs["engine"] == alone.attrs["engine"]
    assert kept.attrs["wall_s"] == pytest.approx(sum(made.attrs["wall_s"] for *_, made in made), abs=0.01)
    assert done(tmp_path) == []
    assert "theta" not in kept


def test_parameters_are_kept_to_the_last_bit_where_the_manifest_asks_for_them(tmp_path):
    done(written(tmp_path, one=ONE | {"theta": True}))
    kept = results.stored(tmp_path, "one")
    for length in (10, 12):
        rows = kept.sel(length=length)["theta"].values
        assert rows.dtype == np.float32
        assert [digest(row.tobytes().hex()) for row in rows] == kept.sel(length=length)["digest"].values.tolist()


def test_a_summary_grows_and_what_is_in_it_stays(tmp_path):
    done(written(tmp_path, one=ONE))
    before = read_summary(tmp_path / "one.summary")
    written(tmp_path, one=ONE | {"seeds": 3, "axes": {"length": [10, 12, 14]}})
    assert np.isnan(results.stored(tmp_path, "one")["final_error"].values).sum() == 5
    assert [(labels["length"], seeds) for labels, seeds, _ in done(tmp_path)] == [(10, [2]), (12, [2]), (14, [0, 1, 2])]
    after = read_summary(tmp_path / "one.summary")
    assert after["run"].values.tolist()[:4] == before["run"].values.tolist()
    assert after.isel(network=slice(4)).equals(before.drop_attrs())
    assert results.stored(tmp_path, "one")["final_error"].notnull().all()


def test_a_network_that_two_results_want_is_trained_once_and_is_in_the_summaries_of_both(tmp_path):
    two = ONE | {"priority": 2, "axes": {"length": [12, 14]}}
    made = done(written(tmp_path, one=ONE, two=two))
    assert [(labels["result"], labels["length"]) for labels, _, made in made if made is not None] == [
        ("one", 10), ("one", 12), ("two", 14)
    ]  # fmt: skip
    one, both = results.stored(tmp_path, "one"), results.stored(tmp_path, "two")
    assert one["digest"].sel(length=12).equals(both["digest"].sel(length=12))
    (tmp_path / "two.summary").unlink()
    assert [labels["length"] for labels, *_ in done(tmp_path)] == [14]  # from the store; 12 from the other summary
    assert done(tmp_path) == []
    assert results.stored(tmp_path, "two")["digest"].equals(both["digest"])


def test_who_ended_within_a_smaller_budget_stands_for_a_larger_one_and_who_did_not_goes_on(tmp_path):
    short = ONE | {"base": LUCKY | {"updates": 500}, "axes": {"length": [10]}, "seeds": 6}
    done(written(tmp_path, short=short))
    ended = results.stored(tmp_path, "short")["first_below_1_percent"].notnull().values.ravel()
    assert 0 < ended.sum() < 6, "some"
    written(tmp_path, short=short, long=short | {"base": LUCKY | {"updates": 1_000}})
    (_, seeds, made), = [one for one in done(tmp_path) if one[2] is not None]  # fmt: skip
    assert seeds == np.flatnonzero(~ended).tolist()
    assert made["update"].max() == 1_000
    written(tmp_path, odd=short | {"base": LUCKY | {"updates": 820, "check_every": 410}})
    assert [len(seeds) for _, seeds, _ in done(tmp_path, chunk=6)] == [6], "other checks are another training"


def test_who_was_never_clipped_is_who_trains_without_clipping_to_the_last_bit(tmp_path):
    plain = {"plain": ONE | {"axes": {"algorithm": ["MSGD"], "length": [12]}, "seeds": 4}}
    (spec,) = results.manifest(written(tmp_path, **plain))["plain"].specs.values
    assert spec.item().algorithm.clip == NoClip()
    alone = train(spec.item(), seeds=4, device="cpu")
    largest = totals(alone)["largest_norm"].values
    axes = {"algorithm": ["MSGD-C"], "threshold": [float(np.median(largest))], "length": [12]}
    done(written(tmp_path, clipped=ONE | {"axes": axes, "seeds": 4}))
    written(tmp_path, **plain)
    trained = [seed for _, seeds, made in done(tmp_path) for seed in seeds]
    assert trained == np.flatnonzero(largest > np.median(largest)).tolist()
    plain = results.stored(tmp_path, "plain").isel(algorithm=0, length=0)
    assert plain["digest"].values.tolist() == [digest(row.tobytes().hex()) for row in alone["theta"].values]


def test_what_someone_else_has_in_hand_is_left_to_them(tmp_path):
    result = results.manifest(written(tmp_path, one=ONE))["one"]
    store, spec = Store(tmp_path / "store"), result.specs.sel(length=10).item()
    with store.alone(spec.family([0, 1])) as mine:
        assert mine
        assert [labels["length"] for labels, _, made in done(tmp_path) if made is not None] == [12]
    assert [labels["length"] for labels, _, made in done(tmp_path) if made is not None] == [10]


def test_a_sweeps_summary_counts_until_its_networks_are_made_again_with_digests(tmp_path):
    written(tmp_path, one=ONE | {"checks": 50})
    specs = results.manifest(tmp_path)["one"].specs
    old = totals(sweep(specs, seeds=2, device="cpu", progress=False)).reindex(seed=[0, 1, 2])
    write_summary(old.drop_vars("theta"), tmp_path / "one.summary", command="by hand")
    kept = results.stored(tmp_path, "one")
    assert kept.attrs["command"] == "by hand"
    assert (kept["digest"] == "").all()
    assert [one.said for one in making.verify(tmp_path, sample=2, device="cpu")] == ["the same outcomes"] * 2
    assert making.status(tmp_path, Store(tmp_path / "store"))[0].finished == 0
    assert len(done(tmp_path)) == 2
    again = results.stored(tmp_path, "one")
    assert (again["digest"] != "").all()
    assert again.attrs["command"] == "rnnlab results run --only one"
    for name in ("run", "final_error", "final_rho"):
        np.testing.assert_array_equal(again[name], kept[name])


def test_the_standing_counts_what_is_finished_begun_and_left(tmp_path):
    long = {"base": BASE | {"updates": 3_000, "batch": 20}, "axes": {"length": [20, (50, 201)]}, "seeds": 2}
    written(tmp_path, one=ONE, long=ONE | long | {"axes": {"length": [20, [50, 201]]}, "priority": 2})
    store = Store(tmp_path / "store")
    done(tmp_path, store=store, only=["one"])
    one, long = making.status(tmp_path, store)
    assert (one.finished, one.begun, one.wanted, one.updates, one.hours) == (4, 0, 4, 30, 0)
    assert (long.finished, long.begun, long.wanted, long.updates) == (0, 0, 4, 3_000)
    weights = 6 * (6 + 6 + 4)  # units times units, inputs and outputs
    assert long.hours == pytest.approx(7e-11 * 2 * 3_000 * 20 * (20.5 + 125.5) * weights / 3600, rel=1e-9)
    spec = long.result.specs.values.flat[0]
    train(spec.with_(updates=1_000, check_every=10), seeds=2, device="cpu", store=store)
    begun = making.status(tmp_path, store)[1]
    assert (begun.finished, begun.begun) == (0, 2)
    saved = 7e-11 * 2 * 1_000 * 20 * 20.5 * weights / 3600
    assert begun.hours == pytest.approx(long.hours - saved, rel=1e-9)


def test_verifying_trains_again_and_sees_a_bit_that_is_another(tmp_path, monkeypatch):
    done(written(tmp_path, one=ONE))
    found = list(making.verify(tmp_path, sample=9, device="cpu"))
    assert [(one.holds, one.said) for one in found] == [(True, "the same bits")] * 4
    specs = results.manifest(tmp_path)["one"].specs.values.flat
    assert {one.which for one in found} == {spec.id(seed) for spec in specs for seed in (0, 1)}
    kept = read_summary(tmp_path / "one.summary")

    def said(**columns):
        write_summary(kept.assign(columns), tmp_path / "one.summary", command="")
        return [(one.holds, one.said) for one in making.verify(tmp_path, sample=9, device="cpu")]

    other = kept["digest"].copy(data=["0" * 16] * 4)
    assert said(digest=other) == [(False, "other bits by the same engine")] * 4
    engine = kept["engine"].copy(data=["cpu of old"] * 4)
    assert said(digest=other, engine=engine) == [(True, "the same outcomes")] * 4
    rho = kept["final_rho"] + 1
    was = f"by {kept['engine'].values[0]} instead of cpu of old: other final_rho"
    assert said(digest=other, engine=engine, final_rho=rho) == [(True, was)] * 4
    solved = kept["first_below_1_percent"].copy(data=[10.0] * 4)
    assert not any(holds for holds, _ in said(digest=other, engine=engine, first_below_1_percent=solved))
    none = kept["digest"].copy(data=[""] * 4)
    assert not any(holds for holds, _ in said(digest=none, final_rho=rho)), "the same engine gives no other outcome"


COMMAND = [sys.executable, "-m", "rnnlab", "results"]


def test_killed_at_any_instant_it_goes_on_and_two_at_once_share_the_work(tmp_path):
    base = LUCKY | {"updates": 1_000, "stop": "never"}
    for place in ("whole", "killed"):
        (tmp_path / place).mkdir()
        written(tmp_path / place, one=ONE | {"base": base, "axes": {"length": [10, 12, 14, 16]}})
    done(tmp_path / "whole", chunk=1)
    command = [*COMMAND, "--results", str(tmp_path / "killed"), "--folder", str(tmp_path / "store"), "run"]
    command += ["--processes", "1", "--chunk", "1", "--device", "cpu"]
    how = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    for seconds in (0.2, None):
        pair = [subprocess.Popen(command, **how) for _ in range(2)]
        for process in pair if seconds else ():
            process.stdout.readline()
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        ended = [process.communicate() and process.returncode for process in pair]
        assert ended == ([-signal.SIGKILL] * 2 if seconds else [0, 0])
        kept = results.table([tmp_path / "killed" / "one.summary"])
        assert len(set(kept["run"].values)) == kept.sizes["network"], "no network twice"
    assert kept.sizes["network"] == 8
    once, again = results.stored(tmp_path / "whole", "one"), results.stored(tmp_path / "killed", "one")
    assert once["digest"].equals(again["digest"])
    assert once["final_rho"].equals(again["final_rho"])


def test_the_command_runs_stops_in_time_says_how_far_it_is_and_verifies(tmp_path, capsys, monkeypatch):
    before = [signal.getsignal(sign) for sign in (signal.SIGALRM, signal.SIGTERM)]
    monkeypatch.setenv("RNNLAB_STORE", str(tmp_path / "store"))
    try:
        where = ["results", "--results", str(written(tmp_path, one=ONE))]
        assert main([*where, "status"]) == 0
        assert re.search(r"1 +one +0 +0 +4 +30 +0\.0\n", capsys.readouterr().out)
        assert main([*where, "run", "--processes", "1", "--device", "cpu"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [re.sub(r"\d+ s$", "s", line) for line in said] == [
            f"one: length {length}, seeds [0, 1]: 0 solved, s" for length in (10, 12)
        ]
        assert main([*where, "verify", "--sample", "2"]) == 0
        assert "2 networks and tables, 0 of them others than stored" in capsys.readouterr().out
        assert main([*where, "pack", str(tmp_path / "all.tar")]) == 0
        monkeypatch.setenv("RNNLAB_STORE", str(tmp_path / "other"))
        assert main([*where, "unpack", str(tmp_path / "all.tar")]) == 0
        (tmp_path / "one.summary").unlink()
        assert main([*where, "run", "--processes", "1", "--device", "cpu"]) == 0  # what was unpacked is finished
        assert len(results.table([tmp_path / "one.summary"])["run"]) == 4
        forever = ONE | {"base": BASE | {"updates": 10**7, "stop": "never"}}
        written(tmp_path, one=forever)
        for seconds in (2, 20):  # a busy machine may begin nothing within the first
            begun = time.monotonic()
            limited = [*where, "run", "--hours", str(seconds / 3600), "--processes", "1", "--device", "cpu"]
            assert main(limited) == 130
            assert seconds <= time.monotonic() - begun < seconds + 18
            assert "interrupted; the same command goes on from there" in capsys.readouterr().err
            if making.status(tmp_path, Store())[0].begun:
                break
        assert making.status(tmp_path, Store())[0].begun == 2
        assert main([*where, "run", "--only", "two"]) == 2
        assert "rnnlab: only must be of one, got 'two'" in capsys.readouterr().err
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for sign, handler in zip((signal.SIGALRM, signal.SIGTERM), before, strict=True):
            signal.signal(sign, handler)


def test_at_low_priority_a_process_computes_only_when_nobody_else_does():
    """Also against the processes of other terminals, among which Linux shares the processors first."""
    program = "import os; from rnnlab import machine; machine.give_way(); print(os.nice(0), os.sched_getscheduler(0))"
    program += "; print(open('/proc/self/autogroup').read() if os.path.exists('/proc/self/autogroup') else 'nice 19')"
    run = partial(subprocess.run, capture_output=True, text=True, check=True, start_new_session=True)
    said = run([sys.executable, "-c", program]).stdout.split()
    assert said[:2] == ["19", str(os.SCHED_IDLE)]
    assert said[-2:] == ["nice", "19"]


def test_a_result_whose_corpus_is_not_there_is_left_and_the_next_one_made(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "none"))
    music = ONE | {"base": BASE | {"task": {"type": "Rolls", "corpus": "Nottingham"}}, "axes": {}, "priority": 0}
    folder = written(tmp_path, music=music, one=ONE | {"axes": {}, "seeds": 1})
    with pytest.warns(UserWarning, match=r"left until its corpus is there: .*Nottingham\.mat is not there"):
        made = done(folder)
    assert [(labels["result"], found is None) for labels, _, found in made] == [("music", True), ("one", False)]


def test_the_books_summaries_are_small_and_its_manifest_names_pages_that_exist():
    folder = ROOT / "book" / "results"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10**6
    for result in results.manifest(folder).values():
        assert all((ROOT / "book" / f"{page}.md").exists() for page in result.pages), result.name
        for page in result.pages:
            code = (ROOT / "book" / f"{page}.md").read_text(encoding="utf8")
            assert f'"{result.name}"' in code or not (folder / f"{result.name}.summary").exists(), (page, result.name)


@pytest.mark.parametrize(("page", "name"), [("temporal_order", "fig_7"), ("clipping_by_length", "clipping_by_length")])
def test_the_paper_profile_of_a_page_that_stores_results_is_the_manifests(page, name):
    given = yaml.safe_load((ROOT / "params" / "paper" / f"{page}.yaml").read_text())
    specs, seeds = (result := results.manifest(ROOT / "book" / "results")[name]).specs, result.seeds
    assert given["lengths"] == specs["length"].values.tolist()
    assert given["seeds"] == len(seeds)
    assert {spec.updates for spec in specs.values.flat} == {given["updates"]}
    assert set(given.get("inits", [given.get("init")])) <= set(specs["init"].values)
    assert set(given.get("algorithms", [])) <= set(specs["algorithm"].values)
    assert {spec.units for spec in specs.values.flat} == {given.get("units", 50)}
