"""What a summary keeps of a series, and when checks are due, by hand."""

import io

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from rnnlab.sweeps import summaries
from rnnlab.sweeps.summaries import due, read_summary, rounded, write_summary, write_table
from rnnlab.training.specs import run_id
from rnnlab.training.store import File, decode, encode


@pytest.mark.parametrize(
    ("budget", "check_every", "updates"),
    [(30, 10, [10, 20, 30]), (25, 10, [10, 20, 25]), (10, 10, [10]), (9, 10, [9]), (3, 1, [1, 2, 3])],
)
def test_a_check_is_due_every_so_many_updates_and_at_the_end(budget, check_every, updates):
    assert due(budget, check_every).tolist() == updates


def kept(values, tmp_path):
    runs = xarray.Dataset({"rho": ("check", np.array(values))}, coords={"check": np.arange(len(values))})
    write_summary(runs, tmp_path / "some.summary", command="by hand")
    return read_summary(tmp_path / "some.summary")


def test_series_are_rounded_to_eleven_bits_half_to_even_at_any_size(tmp_path):
    unit = 2.0**-10
    steps = np.array([0, 1, 2, 0.5, 1.5, 0.5 + 2**-9, 1.5 - 2**-9, 1024])  # above 1, in units
    want = np.array([0, 1, 2, 0, 2, 1, 1, 1024])
    for scale in (1.0, -1.0, 2.0**-60, 2.0**60):
        found = kept(scale * (1 + unit * steps), tmp_path)["rho"]
        assert found.values.tolist() == (scale * (1 + unit * want)).tolist()
        assert found.dtype == np.float32
    assert kept([0.0, 0.0], tmp_path)["rho"].values.tolist() == [0.0, 0.0]
    broken = kept([np.nan, np.inf, 1.0], tmp_path)["rho"].values
    assert np.isnan(broken[0])
    assert broken[1:].tolist() == [np.inf, 1.0]


def test_parameters_of_sixteen_bits_are_as_near_as_can_be_and_end_in_eight_zeros():
    theta = np.random.default_rng(0).standard_normal((3, 1000), dtype=np.float32)
    short = rounded(theta, 16)
    assert not (short.view(np.uint32) & 0xFF).any()
    assert (abs(short - theta.astype(float)) <= abs(theta) * 2.0**-16).all()
    assert np.array_equal(rounded(short, 16), short)
    assert np.array_equal(rounded(theta, 24), theta)
    for bits in (0, 25):
        with pytest.raises(ValueError, match=f"bits must be 1 to 24, as many as float32 has, got {bits}"):
            rounded(theta, bits)


def test_of_many_checks_fifty_are_kept_as_evenly_as_can_be_the_first_and_last_among_them(tmp_path):
    found = kept(np.arange(101.0), tmp_path)
    assert found["check"].values.tolist() == [round(i * 100 / 49) for i in range(50)]
    assert found.attrs["checks"] == "50 of 101"
    assert kept(np.arange(50.0), tmp_path).sizes["check"] == 50
    write_summary(found, tmp_path / "again.summary", command="another")
    again = read_summary(tmp_path / "again.summary").attrs
    assert (again["checks"], again["command"]) == ("50 of 101", "another")


def drawn(checks, networks=200):
    values = np.random.default_rng(0).random((checks, networks)) + 1  # 11 bits of each are beyond compression
    return xarray.Dataset({"rho": (("check", "seed"), values)}, coords={"check": np.arange(checks)})


def test_words_that_come_again_take_little_room_and_are_read_back(tmp_path):
    words = [f"{'a long specification, told for each of many networks, ' * 20}{n % 7}" for n in range(700)]
    runs = drawn(2, 700).assign(spec=("seed", words), run=("seed", [f"{n:016x}" for n in range(700)]))
    write_summary(runs, tmp_path / "some.summary", command="")
    found = read_summary(tmp_path / "some.summary")
    assert found["spec"].values.tolist() == words
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: x.values for name, x in found.variables.items()})
    assert (tmp_path / "some.summary").stat().st_size < 0.8 * stream.getbuffer().nbytes


def test_a_summary_has_as_many_checks_as_fit(tmp_path, monkeypatch):
    assert summaries.LIMIT == 200_000
    runs, path = drawn(60), tmp_path / "some.summary"
    for checks in (50, 40, 30, 20, 15, 10, 5, 2):
        monkeypatch.setattr(summaries, "LIMIT", 10**6)
        chosen = [round(i * 59 / (checks - 1)) for i in range(checks)]
        write_summary(runs.isel(check=chosen), path, command="")
        monkeypatch.setattr(summaries, "LIMIT", path.stat().st_size + 30)  # "2 of 60" is longer than "2 of 2"
        write_summary(runs, path, command="")
        assert read_summary(path)["check"].values.tolist() == chosen


def test_what_no_thinning_makes_small_enough_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(summaries, "LIMIT", 500)
    with pytest.raises(ValueError, match="runs must be few enough for 500 bytes"):
        write_summary(drawn(2), tmp_path / "x.summary", command="")
    with pytest.raises(ValueError, match="runs must have a dimension check"):
        write_summary(drawn(2).isel(check=0), tmp_path / "x.summary", command="")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("save", [np.savez, summaries._packed])
def test_a_summary_of_an_earlier_version_is_read_as_ever(save, tmp_path):
    table = xarray.Dataset(
        {"x": ("row", [0.5, np.nan]), "y": ("row", np.float32([0.1, 2])), "what": ("row", ["a", "b"])}
    )
    table = table.assign_attrs(command="make it")
    write_table(table, tmp_path / "now.summary")
    now = decode((tmp_path / "now.summary").read_bytes())
    assert (list(now.arrays), now.header) == ([summaries.SOLID], {})
    values = {name: table[name].values for name in ("x", "y", "what")}
    before = encode(File(now.name, table.to_dict(data=False), values), save=save)
    (tmp_path / "before.summary").write_bytes(before)
    assert read_summary(tmp_path / "before.summary").identical(table)
    assert read_summary(tmp_path / "now.summary").identical(table)


def test_names_of_runs_that_specifications_and_seeds_give_take_no_room_and_others_are_kept(tmp_path):
    specs, seeds = ["one", "another", ""], [3, 2**63 - 1]
    ids = np.array([[run_id(spec, seed) if spec else "" for seed in seeds] for spec in specs])
    runs = drawn(2, 2).assign_coords(seed=seeds).assign(spec=("length", specs), run=(("length", "seed"), ids))
    write_table(runs, tmp_path / "some.summary")
    held = decode((tmp_path / "some.summary").read_bytes(), name="some").arrays
    assert "run" not in summaries._unpacked(held)
    assert read_summary(tmp_path / "some.summary")["run"].identical(runs["run"])
    less = File("summary", {}, {name: x for name, x in summaries._unpacked(held).items() if name != "rho"})
    (tmp_path / "less.summary").write_bytes(encode(less, save=summaries._packed))
    with pytest.raises(KeyError, match="rho"):  # no other column may be missing
        read_summary(tmp_path / "less.summary")
    ids[0, 1] = "0" * 16
    write_table(runs.assign(run=(("length", "seed"), ids)), tmp_path / "some.summary")
    assert (read_summary(tmp_path / "some.summary")["run"].values == ids).all()
    write_table(runs.drop_vars("spec"), tmp_path / "some.summary")
    assert (read_summary(tmp_path / "some.summary")["run"].values == runs["run"].values).all()


def test_a_variable_that_would_take_the_place_of_the_header_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no variable of a summary may be called 'header'"):
        write_table(xarray.Dataset({"header": ("row", [1.0])}), tmp_path / "some.summary")


@given(arrays("float32", array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_float32_lie_byte_by_byte_and_come_back_to_the_bit(values):
    apart = summaries._apart(values)
    assert (apart.dtype, apart.shape) == (np.uint8, (4, *values.shape))
    back = summaries._together(apart)
    assert (back.dtype, back.shape, back.tobytes()) == (values.dtype, values.shape, values.tobytes())
