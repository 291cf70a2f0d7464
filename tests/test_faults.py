"""Files that are damaged, folders that are full or closed, other engines: the right result, or a clear error."""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlab import Spec, Store, TemporalOrder, sweeps, train
from rnnlab.engine import batched
from rnnlab.sweeps.summaries import read_summary, write_summary
from rnnlab.training import ensembles, store
from rnnlab.training.loop import OtherEngineError
from rnnlab.training.store import CHECKPOINT, RUN, DamagedError, encode
from tests.training.test_resume import Ending, Interruption, assert_same

SPEC = Spec(
    task=TemporalOrder(10), units=8, batch=5, updates=60, check_every=20, check_sequences=20, confirm_sequences=20
)
KINDS = [RUN, CHECKPOINT]


def trained(store=None, **how):
    return train(SPEC, seeds=3, device="cpu", store=store, checkpoint_every=0, **how)


@pytest.fixture(scope="module")
def whole():
    return trained()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A finished training, a checkpoint of it, and a summary."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.raises(Interruption):
        trained(Ending(folder, at={2}))
    (checkpoint,) = folder.iterdir()
    data = {CHECKPOINT: checkpoint.read_bytes()}
    runs = trained(Store(folder))
    (run,) = folder.iterdir()
    write_summary(runs, folder / "summary", command="")
    return data | {RUN: run.read_bytes(), "summary": (folder / "summary").read_bytes(), "stem": run.stem}


def put(folder, files, kind, data):
    path = folder / f"{files['stem']}.{kind}"
    path.write_bytes(data)
    return path


def npz(**arrays):
    """As somebody else writes it."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def of_version_3(data):
    with np.load(io.BytesIO(data)) as held:
        words = json.loads(held["rnnlab"].tobytes()) | {"version": 3}
        arrays = dict(held) | {"rnnlab": np.frombuffer(json.dumps(words).encode(), dtype=np.uint8)}
    body = npz(**arrays)[:-2] + b"\x40\0"
    return body + hashlib.sha256(body).hexdigest().encode()


def assert_set_aside_and_computed_anew(folder, path, whole, why):
    with pytest.warns(UserWarning, match=f"set aside in .*: {path.name} is {why}"):
        assert_same(trained(Store(folder)), whole)
    assert path.with_name(f"{path.name}.aside") in folder.iterdir()
    assert [p.suffix for p in Store(folder).files()] == [".run"]
    assert Store(folder).verify() == {}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_a_file_that_is_cut_short_is_set_aside_and_computed_anew(kind, data, files, whole):
    keep = data.draw(st.integers(0, len(files[kind]) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), files, kind, files[kind][:keep])
        assert_set_aside_and_computed_anew(Path(folder), path, whole, "(truncated|no file)")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(data=st.data(), mask=st.integers(1, 255))
def test_a_file_of_which_one_byte_is_another_is_set_aside_and_computed_anew(kind, data, mask, files, whole):
    at = data.draw(st.integers(0, len(files[kind]) - 1))
    changed = bytearray(files[kind])
    changed[at] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), files, kind, bytes(changed))
        assert_set_aside_and_computed_anew(
            Path(folder), path, whole, "(truncated or changed|no file|of another version)"
        )


@pytest.mark.parametrize("kind", [*KINDS, "summary"])
def test_no_byte_of_a_file_can_be_changed_or_left_out_unnoticed(kind, files):
    for at in range(len(files[kind])):
        changed = bytearray(files[kind])
        changed[at] ^= 1 << at % 8
        for damaged in (bytes(changed), files[kind][:at]):
            with pytest.raises(DamagedError):
                store.decode(damaged)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda data: b"rnnlab store 1\n" + data, "of another version"),
        (lambda data: of_version_3(data), "of another version"),
        (lambda data: b"PK\3\4" + data, "no file of rnnlab's store"),
        (lambda data: npz(theta=np.zeros(3)), "no file of rnnlab's store"),
        (lambda data: b"", "no file of rnnlab's store"),
        (lambda data: encode(store.File("other", {}, {})), "other under another name"),
    ],
)
def test_a_foreign_file_is_named_set_aside_and_computed_anew(kind, make, why, files, whole, tmp_path):
    assert_set_aside_and_computed_anew(tmp_path, put(tmp_path, files, kind, make(files[kind])), whole, why)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_that_lacks_something_is_set_aside_and_computed_anew(kind, files, whole, tmp_path):
    file = store.decode(files[kind])
    for part in ("theta", "loss", "members", "updates"):
        lacking = store.File(file.name, file.header, {n: a for n, a in file.arrays.items() if n != part})
        path = put(tmp_path, files, kind, encode(lacking))
        assert_set_aside_and_computed_anew(tmp_path, path, whole, "not a training")
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()


def test_a_damaged_summary_is_refused_by_name(files, tmp_path):
    path = tmp_path / "summary"
    for data in (files["summary"][:-1], files["run"], b"text"):
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=f"{path} is"):
            read_summary(path)


@pytest.fixture
def other_engine(monkeypatch):
    monkeypatch.setattr(ensembles, "choose", lambda **_: batched)


def test_another_engine_refuses_to_go_on_and_starts_again_when_told_to(files, whole, tmp_path, other_engine):
    path = put(tmp_path, files, CHECKPOINT, files[CHECKPOINT])
    with pytest.raises(OtherEngineError, match=r"holds 40 updates by .*'cpu .* but here is .*'batched'.*restart=True"):
        trained(Store(tmp_path))
    assert path.read_bytes() == files[CHECKPOINT]
    with pytest.raises(Interruption):
        trained(Ending(tmp_path, at={1}), restart=True)
    seen = []
    again = trained(Store(tmp_path), progress=seen.append)  # from its own checkpoint, without being told again
    assert [progress.done for progress in seen] == [40, 60]
    assert again.engine == "batched"
    assert not again.theta.equals(whole.theta)


def test_what_another_engine_has_finished_is_a_result(files, whole, tmp_path, other_engine):
    put(tmp_path, files, RUN, files[RUN])
    found = trained(Store(tmp_path))
    assert_same(found, whole)
    assert found.engine.startswith("cpu ")


GO_ON = """
import sys
from rnnlab import Spec, Store, TemporalOrder, train
from rnnlab.training import loop
spec = Spec(task=TemporalOrder(10), units=8, batch=5, updates=60, check_every=20, check_sequences=20,
            confirm_sequences=20)
given = {"seeds": 3, "device": "cpu", "store": Store(sys.argv[1])}
try:
    train(spec, **given)
except loop.OtherEngineError as refusal:
    print(refusal)
print(train(spec, **given, restart=True).engine)
"""


def test_another_instruction_set_refuses_to_go_on_names_both_and_starts_again(files, tmp_path):
    put(tmp_path, files, CHECKPOINT, files[CHECKPOINT])
    run = subprocess.run(
        [sys.executable, "-c", GO_ON, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"RNNLAB_INSTRUCTIONS": "baseline"},
    )
    refusal, engine = run.stdout.splitlines()
    ours = store.decode(files[CHECKPOINT]).header["provenance"]["engine"]
    assert ours in refusal
    assert engine.startswith("cpu baseline ")
    assert f"here is {{'engine': '{engine}'" in refusal


@contextmanager
def full_disk(size):
    """No file may grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 2_000])
def test_a_full_disk_costs_what_could_not_be_kept_and_no_result(size, whole, tmp_path):
    with full_disk(size), pytest.warns(UserWarning, match="could not be written, and training goes on: .*too large"):
        assert_same(trained(Store(tmp_path)), whole)
    assert list(tmp_path.iterdir()) == []
    assert_same(trained(Store(tmp_path)), whole)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_as_it_was(files, whole, tmp_path):
    path = put(tmp_path, files, CHECKPOINT, files[CHECKPOINT])
    with full_disk(1_000), pytest.warns(UserWarning, match="could not be written"):
        assert_same(trained(Store(tmp_path)), whole)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == files[CHECKPOINT]


@pytest.fixture
def closed():
    """A folder that nobody may write to, and a user for whom that counts."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)  # nobody
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_is_closed_is_refused_before_anything_is_computed(closed, monkeypatch):
    seen = []
    for folder in (closed, closed / "below"):
        with pytest.raises(OSError, match=r"the store cannot be written to: Permission denied .*RNNLAB_STORE"):
            trained(Store(folder), progress=seen.append)
    assert seen == []


def test_a_closed_folder_can_be_read_and_a_damaged_file_in_it_is_not_trusted(closed, files, whole):
    user = os.geteuid()
    os.seteuid(os.getuid())
    closed.chmod(0o755)
    put(closed, files, RUN, files[RUN])
    closed.chmod(0o555)
    os.seteuid(user)
    assert_same(trained(Store(closed)), whole)
    os.seteuid(os.getuid())
    (closed / f"{files['stem']}.run").write_bytes(files[RUN][:-1])
    os.seteuid(user)
    with pytest.warns(UserWarning, match="truncated or changed"), pytest.raises(OSError, match="cannot be written to"):
        trained(Store(closed))
    assert [path.name for path in closed.iterdir()] == [f"{files['stem']}.run"]


@pytest.mark.parametrize("jump", [-4e9, 4e9])
def test_a_clock_that_jumps_changes_neither_bits_nor_checkpoints(jump, whole, tmp_path, monkeypatch):
    real, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + jump * (next(calls) % 2))
    never = Ending(tmp_path / "never")
    assert_same(train(SPEC, seeds=3, device="cpu", store=never, checkpoint_every=3_600), whole)
    assert never.count[0] == 1
    with pytest.raises(Interruption):
        trained(Ending(tmp_path, at={2}))
    (checkpoint,) = Store(tmp_path).files()
    os.utime(checkpoint, (0, max(0, real() + jump)))  # written in 1970, or in 2150
    seen = []
    assert_same(trained(Store(tmp_path), progress=seen.append), whole)
    assert [progress.done for progress in seen] == [60]


def test_a_store_in_a_sweep_survives_a_file_that_is_damaged(tmp_path):
    axes = {"init": {"a": SPEC.init}, "algorithm": {"b": SPEC.algorithm}, "length": [10, 12], "seeds": 2}
    runs = sweeps.run(SPEC, **axes, device="cpu", store=Store(tmp_path))
    path = Store(tmp_path).files()[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=f"{path.name} is truncated"):
        assert_same(sweeps.run(SPEC, **axes, device="cpu", store=Store(tmp_path)), runs)
