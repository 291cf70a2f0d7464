"""The store: what is written is read again to the bit, and its command line says, checks, tidies, packs, sums up."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rnnlab import INITS, Algorithm, Spec, Start, Store, TemporalOrder, ThreeBitTemporalOrder, sweeps, train
from rnnlab.__main__ import main
from rnnlab.sweeps.summaries import read_summary, write_summary, write_table
from rnnlab.training.progress import Progress
from rnnlab.training.records import totals
from rnnlab.training.store import DamagedError, File, Kept, decode, encode
from rnnlab.values import taken

BASE = Spec(units=6, batch=4, updates=20, check_every=10, check_sequences=20, confirm_sequences=20, stop="never")
ALGORITHMS = {name: Algorithm.named(name) for name in ("MSGD-CR", "MSGD")}
AXES = {"init": {n: INITS[n]() for n in ("smart tanh", "sigmoid")}, "algorithm": ALGORITHMS, "length": [12, 10]}
SHAPES = arrays.array_shapes(min_dims=0, min_side=0, max_dims=3)
NUMBERS = st.sampled_from(["u1", "<i8", ">i8", "<f4", ">f4", "<f8"]).flatmap(lambda d: arrays.arrays(d, SHAPES))
NAMES = st.from_regex(r"[a-z_]{1,20}", fullmatch=True).filter(lambda name: name not in ("file", "rnnlab"))
WORDS = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return sweeps.run(BASE, **AXES, seeds=3, chunk=2, device="cpu", store=Store(folder)), folder


def identities(folder):
    """What changes when a file is written again, be it with the same bytes."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def run(folder, *arguments):
    return main(["store", "--folder", str(folder), *map(str, arguments)])


@given(held=st.dictionaries(NAMES, NUMBERS, max_size=4), words=st.dictionaries(st.text(), WORDS, max_size=4))
def test_a_file_is_read_as_it_was_written(held, words):
    file = decode(encode(File("name", words, held)))
    assert (file.name, file.header) == ("name", words)
    assert list(file.arrays) == list(held)
    for name, values in held.items():
        got = file.arrays[name]
        assert got.dtype == values.dtype
        assert got.shape == values.shape
        assert got.tobytes() == values.tobytes()
        assert got.flags.writeable


def test_numpy_reads_a_file_and_the_sum_is_the_archives_comment(swept):
    path = Store(swept[1]).files()[0]
    with np.load(path) as found:
        assert json.loads(found["rnnlab"].tobytes())["name"] == path.name
        assert found["theta"].dtype == np.float32
        body, digest = path.read_bytes()[:-64], found.zip.comment.decode()
    assert digest == hashlib.sha256(body).hexdigest()


@settings(max_examples=300)
@given(data=st.binary(max_size=200), begun=st.booleans(), summed=st.booleans())
def test_anything_else_is_no_file_of_a_store(data, begun, summed):
    data = encode(File("name", {}, {}))[:40] * begun + data
    with pytest.raises(DamagedError):
        decode(data + hashlib.sha256(data).hexdigest().encode() * summed)


def test_what_an_archive_would_execute_is_never_read(tmp_path):
    trap = np.empty((), dtype=object)
    trap[()] = Path(tmp_path / "trap").touch  # what is pickled calls nothing, and is refused all the same
    with pytest.raises(DamagedError, match="not as rnnlab writes it: Object arrays cannot be loaded"):
        decode(encode(File("name", {}, {"trap": trap})))


def test_the_folder_is_the_one_asked_for_or_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("RNNLAB_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Store().folder == Path("/data/rnnlab")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setattr("sys.platform", "linux")
    assert Store().folder == Path("/home/x/.local/share/rnnlab")
    monkeypatch.setattr("sys.platform", "darwin")
    assert Store().folder == Path("/home/x/Library/Application Support/rnnlab")
    monkeypatch.setenv("RNNLAB_STORE", str(tmp_path / "a"))
    assert Store().folder == tmp_path / "a"
    assert not (tmp_path / "a").exists()
    assert Store("~/b").folder == Path("/home/x/b")
    monkeypatch.setenv("RNNLAB_STORE", "~/c")
    assert Store().folder == Path("/home/x/c")
    monkeypatch.delenv("RNNLAB_STORE")
    monkeypatch.setattr("sys.platform", "linux")
    for data, folder in (("~/d", "/home/x/d/rnnlab"), ("relative", "/home/x/.local/share/rnnlab")):
        monkeypatch.setenv("XDG_DATA_HOME", data)
        assert Store().folder == Path(folder)
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "inside" / "of", "a\0b"):
        with pytest.raises(ValueError, match="folder must be the path of a folder"):
            Store(wrong)


def test_without_a_home_folder_a_store_asks_for_its_own_and_takes_it(monkeypatch, tmp_path, capsys):
    """As where HOME is not set and the user has no entry in the list of users."""
    for name in ("HOME", "RNNLAB_STORE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for folder in (None, "~/x"):
        with pytest.raises(ValueError, match=r"^folder must be a whole path .*; RNNLAB_STORE names a store's folder"):
            Store(folder)
    assert main(["store", "list"]) == 2
    assert re.fullmatch("rnnlab: folder must be a whole path .*\n", capsys.readouterr().err)
    monkeypatch.setenv("RNNLAB_STORE", str(tmp_path / "a"))
    assert main(["store", "list"]) == 0
    (tmp_path / "a").mkdir()
    assert main(["store", "list"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/a is not there yet\n{tmp_path}/a holds no trainings\n"


def test_summaries_know_the_home_folder(swept, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_summary(swept[0], "~/one.summary", command="")
    assert read_summary("~/one.summary").identical(read_summary(tmp_path / "one.summary"))


def test_a_sweep_in_a_store_is_a_sweep_without_one_and_has_a_file_for_every_ensemble(swept):
    runs, folder = swept
    alone = sweeps.run(BASE, **AXES, seeds=3, device="cpu")
    assert runs.drop_attrs().identical(alone.drop_attrs())
    assert len(list(folder.iterdir())) == len(Store(folder).files("run")) == 2 * 2 * 2 * 2
    assert runs.attrs["wall_s"] > 0
    assert runs.attrs["engine"].startswith("cpu ")
    assert {"device", "torch", "python", "numpy", "rnnlab", "threads", "date"} < set(runs.attrs)


def test_a_sweep_reads_what_is_finished_and_computes_only_the_rest(swept):
    runs, folder = swept
    lost = Store(folder).files()[5]
    lost.unlink()
    kept = identities(folder)
    seen: list[Progress] = []
    again = sweeps.run(BASE, **AXES, seeds=3, chunk=2, device="cpu", store=Store(folder), progress=seen.append)
    assert again.drop_attrs().identical(runs.drop_attrs())
    assert {path: is_ for path, is_ in identities(folder).items() if path != lost} == kept
    assert lost.exists()
    assert [progress.over for progress in seen] == [False] * 15 + [True]
    assert seen[-1].note.endswith(": 24 runs, 0 solved")
    labels = json.loads(Store(folder).read(lost.name).header["spec"])["spec"]
    assert f"length {labels['task']['length']}" in seen[-1].note  # the one that is computed comes last


def test_what_a_store_has_of_a_sweep_can_be_gathered_without_knowing_its_axes(swept):
    runs, folder = swept
    found = sweeps.gather(Store(folder))
    expected = (
        totals(runs).drop_vars(["theta", "spec"]).sel(init=found.init, algorithm=found.algorithm, length=found.length)
    )
    xarray.testing.assert_identical(found.drop_vars("spec").drop_attrs(), expected.drop_attrs())
    for labels in ({"init": "sigmoid", "algorithm": "MSGD", "length": 12}, {"init": "smart tanh", "length": 10}):
        assert (found["spec"].sel(labels) == runs["spec"].sel(labels)).all()


def test_a_store_with_holes_or_with_two_budgets_says_so(swept, tmp_path):
    _, folder = swept
    part = Store(tmp_path)
    for path in Store(folder).files()[:-1]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = sweeps.gather(part)
    assert found["run"].isnull().sum() in (1, 2)
    assert (found["final_error"].isnull() == found["run"].isnull()).all()
    sweeps.run(BASE.with_(updates=30), **AXES, seeds=3, chunk=2, device="cpu", store=part)
    with pytest.raises(
        ValueError, match=r"updates must choose .* of \(updates, check_every\) \[\(20, 10\), \(30, 10\)\]"
    ):
        sweeps.gather(part)
    assert sweeps.gather(part, updates=30).sizes["check"] == 3
    with pytest.raises(ValueError, match=r"updates must be the budget of a finished training in .*, got 40"):
        sweeps.gather(part, updates=40)


def test_gather_keeps_every_axis_by_which_trainings_differ(tmp_path):
    store = Store(tmp_path)
    axes = {
        "task": {"TemporalOrder": TemporalOrder(12), "ThreeBitTemporalOrder": ThreeBitTemporalOrder(12)},
        "algorithm": {name: Algorithm.named(name) for name in ("MSGD-C", "MSGD-CR")},
        "learning_rate": [0.01, 0.1],
        "threshold": [1.0, 2.0],
        "units": [3, 4],
    }
    runs = totals(sweeps.run(BASE, **axes, seeds=2, device="cpu", store=store))
    found = sweeps.gather(store)
    kept = {name: list(axis) for name, axis in axes.items()} | {"init": ["basic tanh"], "length": [12], "seed": [0, 1]}
    assert {name: found[name].values.tolist() for name in found["run"].dims} == kept
    assert list(found["run"].dims)[:3] == ["init", "algorithm", "length"]
    assert found["threshold"].attrs["units"] == "loss per weight"
    for name in set(found.data_vars) - {"spec"}:
        want = runs[name].expand_dims(init=["basic tanh"], length=[12]).transpose(*found[name].dims)
        np.testing.assert_array_equal(found[name], want)
    plain = {"algorithm": {"MSGD": ALGORITHMS["MSGD"]}}
    sweeps.run(BASE.with_(task=TemporalOrder(12)), **plain, seeds=2, device="cpu", store=store)
    assert sweeps.gather(store)["threshold"].values.tolist() == ["1.0", "2.0", "none"]


def test_a_run_of_two_ensembles_comes_once_and_what_keeps_trainings_from_one_grid_is_named(tmp_path):
    store = Store(tmp_path / "seeds")
    spec = BASE.with_(init=INITS["sigmoid"](), task=TemporalOrder(10), algorithm=ALGORITHMS["MSGD"])
    alone = [train(spec, seeds=seeds, device="cpu", store=store) for seeds in (2, [1, 2])]
    found = sweeps.gather(store).squeeze()
    assert found["seed"].values.tolist() == [0, 1, 2]
    assert found["run"].values.tolist() == [*alone[0]["run"].values, alone[1]["run"].values[1]]
    train(spec, seeds=1, start=Start(alone[0]["theta"].values[:1], 3), device="cpu", store=store)
    with pytest.raises(ValueError, match=r"seed 0 of sigmoid, MSGD, 10 twice, trained beside other seeds: \["):
        sweeps.gather(store)


def test_a_summary_keeps_outcomes_and_provenance_exactly_and_series_to_eleven_bits(swept, tmp_path):
    runs, _ = swept
    write_summary(runs, tmp_path / "summary", command="make it")
    found = read_summary(tmp_path / "summary")
    assert found.attrs == runs.attrs | {"command": "make it", "checks": "2 of 2"}
    assert "theta" not in found
    for name in found.variables:
        want, got = runs[name], found[name]
        assert got.dims == want.dims
        assert got.attrs == want.attrs
        if want.dtype.kind == "f" and "check" in want.dims:
            np.testing.assert_allclose(got, want, rtol=2.0**-11, atol=0)
        else:
            assert (got.values == want.values)[~want.isnull().values].all()
            assert (got.isnull() == want.isnull()).all()


def test_a_summary_of_a_long_sweep_of_450_networks_fits_into_the_book(tmp_path):
    draw = np.random.default_rng(0)
    dims, sizes = ("init", "algorithm", "length", "seed", "check"), (3, 3, 5, 10, 10_000)
    series = draw.lognormal(size=sizes).astype(np.float32)  # numbers that nothing can foretell
    variables = {name: (dims, series + i) for i, name in enumerate(("loss", "norm", "rho", "error"))}
    variables["first_no_error"] = (dims[:4], draw.integers(0, 5_000_000, sizes[:4]).astype(float))
    runs = xarray.Dataset(
        variables, {"update": ("check", 500 * np.arange(1, 10_001)), "length": [50, 100, 150, 200, 250]}
    )
    write_summary(runs, tmp_path / "summary", command="")
    assert (tmp_path / "summary").stat().st_size <= 200_000
    found = read_summary(tmp_path / "summary")
    assert found["update"][-1] == 5_000_000
    assert found["first_no_error"].equals(runs["first_no_error"])
    assert found.attrs["checks"] == f"{found.sizes['check']} of 10000"
    many = xarray.Dataset({"outcome": (("seed", "check"), draw.normal(size=(20_000, 2)))})
    with pytest.raises(ValueError, match="runs must be few enough for 200000 bytes"):
        write_summary(many.assign(other=many["outcome"].isel(check=0)), tmp_path / "x", command="")
    assert not (tmp_path / "x").exists()


def test_a_table_comes_back_to_the_last_digit_and_one_that_is_too_large_is_not_written(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(40, 2))
    table = xarray.Dataset({"a": (("row", "kind"), numbers)}, {"kind": ["one", "other"]}, {"date": "today"})
    write_table(table, tmp_path / "table")
    xarray.testing.assert_identical(read_summary(tmp_path / "table"), table)
    large = xarray.Dataset({"a": ("row", np.random.default_rng(1).normal(size=40_000))})
    with pytest.raises(ValueError, match=r"table must be small enough for 200000 bytes, got \{'row': 40000\}"):
        write_table(large, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_line_lists_checks_tidies_and_sums_up(swept, tmp_path, capsys):
    _, folder = swept
    for path in Store(folder).files():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert run(tmp_path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert re.fullmatch(
        r"[0-9a-f]{20}-000000000020.run  TemporalOrder\(1[02]\) (SmartTanh|SigmoidInit)  [12] networks, "
        r"20 of 20 updates  cpu \S+ [0-9a-f]+ on cpu \S+, \d{4}-\d\d-\d\dT\S+, 0 s",
        lines[0],
    )
    assert run(tmp_path, "verify") == 0
    assert capsys.readouterr().out == "16 files, 0 of them damaged\n"
    name = lines[3].split()[0]
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    (tmp_path / f"{lines[4].split()[0]}.aside").touch()
    (tmp_path / lines[5].split()[0]).with_suffix(".checkpoint").touch()
    assert run(tmp_path, "verify") == 1
    assert "2 of them damaged" in capsys.readouterr().out
    assert run(tmp_path, "clean") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list(tmp_path.iterdir())) == 16
    summary = tmp_path / "summary"
    with pytest.warns(UserWarning, match=f"set aside in .*: {name} is truncated or changed"):
        assert run(tmp_path, "export", summary, "--command", "how") == 0
    assert read_summary(summary).attrs["command"] == "how"
    assert read_summary(summary)["final_error"].notnull().sum() in (22, 23)


def test_what_is_packed_here_is_unpacked_there(swept, tmp_path):
    _, folder = swept
    archive, there = tmp_path / "a.tar", tmp_path / "there"
    assert run(folder, "pack", archive) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    assert run(there, "unpack", archive) == 0
    assert {p.name: p.read_bytes() for p in there.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    kept = identities(there)
    assert Store(there).unpack(archive) == 0
    assert identities(there) == kept


def packed(archive, **files):
    with tarfile.open(archive, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("fault", ["path", "absolute", "link", "flipped", "renamed", "truncated", "text", "checkpoint"])
def test_an_archive_that_holds_anything_else_is_refused_whole(swept, tmp_path, fault, capsys):
    _, folder = swept
    good, other = (path.read_bytes() for path in Store(folder).files()[:2])
    name, second = (path.name for path in Store(folder).files()[:2])
    archive, there = tmp_path / "a.tar", tmp_path / "there" / "store"
    bad = {
        "path": {f"../{second}": other},
        "absolute": {f"{tmp_path}/{second}": other},
        "flipped": {second: other[:1000] + bytes([other[1000] ^ 1]) + other[1001:]},
        "renamed": {second: good},
        "text": {"readme.txt": b"hello"},
        "checkpoint": {second.replace(".run", ".checkpoint"): other},
    }.get(fault, {second: other})
    packed(archive, **{name: good}, **bad)
    if fault == "truncated":
        archive.write_bytes(archive.read_bytes()[: len(good) + 2000])
    if fault == "link":
        with tarfile.open(archive, "a") as tar:
            member = tarfile.TarInfo("0" * 20 + "-" + "0" * 12 + ".run")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    assert run(there, "unpack", archive) == 2
    assert str(archive) in capsys.readouterr().err
    assert not there.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_where_a_store_is_asked_for_its_folders_path_does(tmp_path):
    for path, stands in ((str(tmp_path), Store(tmp_path)), (tmp_path, Store(tmp_path)), (None, None)):
        assert taken("store", path, Kept) == stands
    assert taken("store", Store(tmp_path), Kept) == Store(tmp_path)
    with pytest.raises(ValueError, match="folder must be the path of a folder"):
        taken("store", "a\0b", Kept)
