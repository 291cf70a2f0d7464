"""Corpora: fetched once and by their sums, read piece by piece, and measured over all steps of whole pieces."""

import functools
import hashlib
import http.server
import itertools
import math
import threading

import numpy as np
import pytest
import torch
from scipy.io import savemat

import rnnlab
from rnnlab import Characters, Ensemble, Rolls, SigmoidInit, Spec, SplitLoss, TemporalOrder, bits, check_task
from rnnlab.tasks import corpora, sources
from rnnlab.tasks.sources import SOURCES, SPLITS, Source

LONG = {"train": (7, 5, 11, 1, 8), "validation": (9, 4), "test": (6, 3, 10)}  # steps of each piece
WORDS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"  # with the space and the line's end there are 50 symbols
TRAIN = f"{WORDS[:20]} {WORDS[20:30]}\n{WORDS[30:]}\n"  # without the spaces around its lines


def rolls():
    """Small pieces, no two of whose rows are alike."""
    numbers = itertools.count(1)
    row = lambda: [next(numbers) >> key & 1 for key in range(88)]  # noqa: E731
    return {
        split: [np.array([row() for _ in range(n)], dtype=np.uint8) for n in steps] for split, steps in LONG.items()
    }


def saved(path, held):
    """A file of the format of the real ones: of each split a row of arrays."""
    arrays = {}
    for key, those in held.items():
        arrays[key] = np.empty((1, len(those)), dtype=object)
        arrays[key][0, :] = [*those]
    savemat(path, arrays)
    return path


def sums(*paths):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    """A folder with a small corpus of each kind, in place of the real ones."""
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path))
    music = saved(tmp_path / "Nottingham.mat", {SPLITS[split]: held for split, held in rolls().items()})
    texts = {
        "train": f" {TRAIN.replace(chr(10), ' ' + chr(10), 1)}",
        "valid": " abc d\n\nnone of these stretches is like another\n",
        "test": "dcba dcba",
    }
    paths = [tmp_path / f"ptb.{name}.txt" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    monkeypatch.setitem(SOURCES, "Nottingham", Source("http://127.0.0.1:9/", sums(music)))
    monkeypatch.setitem(SOURCES, "Penn Treebank", Source("http://127.0.0.1:9/", sums(*paths)))
    return tmp_path


@pytest.fixture(name="server")
def _server(folder, monkeypatch):
    """The address of a server of the folder's files, and the paths that it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


def test_files_are_fetched_once_and_by_their_sums(server, folder, tmp_path_factory, monkeypatch):
    address, asked = server
    monkeypatch.setenv("RNNLAB_DATA", str(elsewhere := tmp_path_factory.mktemp("elsewhere") / "data"))
    for corpus in ("Nottingham", "Penn Treebank"):
        monkeypatch.setitem(SOURCES, corpus, Source(address, SOURCES[corpus].sums))
        for _ in range(2):
            paths = sources.fetch(corpus)
        assert paths == [elsewhere / name for name in SOURCES[corpus].sums]
        assert all(path.read_bytes() == (folder / path.name).read_bytes() for path in paths)
    assert sources.fetch("chords") == []
    assert sorted(asked) == ["/Nottingham.mat", "/ptb.test.txt", "/ptb.train.txt", "/ptb.valid.txt"]
    monkeypatch.setitem(SOURCES, "MuseData", Source(address, {"Nottingham.mat": "0" * 64}))
    monkeypatch.setenv("RNNLAB_DATA", str(elsewhere / "other"))
    with pytest.raises(ValueError, match=r"hash of downloaded file.*does not match"):
        sources.fetch("MuseData")
    assert not (elsewhere / "other" / "Nottingham.mat").exists()


def test_a_file_that_is_not_there_is_asked_for_by_address_sum_and_place(folder):
    (folder / "Nottingham.mat").unlink()
    with pytest.raises(FileNotFoundError, match="is not there") as refusal:
        sources.pieces("Nottingham")
    said = str(refusal.value)
    ((name, sum_),) = SOURCES["Nottingham"].sums.items()
    assert f"{folder}/{name} is not there: http://127.0.0.1:9/{name} has it, of SHA-256 {sum_}; put it there" in said
    assert said.endswith("rnnlab.tasks.sources.fetch('Nottingham') do so; RNNLAB_DATA names the folder")
    assert "FileNotFoundError" in check_task(Rolls("Nottingham"))[0]


@pytest.mark.parametrize("changed", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b"x" + data[1:]])
def test_a_file_that_is_cut_short_or_another_is_named(folder, changed):
    path = folder / "ptb.valid.txt"
    path.write_bytes(data := changed(path.read_bytes()))
    with pytest.raises(
        ValueError, match=rf"ptb\.valid\.txt must be as .* has it, .*, got {len(data)} bytes of SHA-256"
    ):
        sources.pieces("Penn Treebank")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("validdata"), "must hold traindata, validdata, testdata, got none of validdata"),
        (lambda held: held["traindata"].__setitem__(1, np.zeros((4, 87))), r"place 1 of traindata .*\(4, 87\)"),
        (lambda held: held["testdata"].__setitem__(2, np.full((4, 88), 2)), "place 2 of testdata .* from 2 to 2"),
        (lambda held: held["testdata"].__setitem__(0, np.full((4, 88), 0.5)), r"place 0 of testdata .* from 0\.5 to"),
        (lambda held: held["traindata"].__setitem__(0, np.full((4, 88), "x")), r"place 0 .*\(4, 88\), of <U1"),
        (lambda held: held["traindata"].__setitem__(3, np.zeros((0, 88))), r"place 3 .*\(0, 88\), of float64"),
    ],
)
def test_rolls_that_are_none_are_named(tmp_path, change, said):
    held = {SPLITS[split]: those for split, those in rolls().items()}
    change(held)
    with pytest.raises(ValueError, match=said):
        sources.read_rolls(saved(tmp_path / "some.mat", held))


@pytest.mark.parametrize("changed", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text" * 40])
def test_a_file_that_holds_no_rolls_or_a_part_of_them_is_named(folder, changed):
    path = folder / "Nottingham.mat"
    path.write_bytes(changed(path.read_bytes()))
    with pytest.raises(ValueError, match=r"Nottingham\.mat must be a whole \.mat file: "):
        sources.read_rolls(path)


def test_texts_that_are_none_are_named(folder):
    paths = [folder / f"ptb.{name}.txt" for name in ("train", "valid", "test")]
    paths[2].write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"ptb\.test\.txt must be UTF-8: .*0xff"):
        sources.read_text(paths)
    paths[2].write_bytes(b"")
    with pytest.raises(ValueError, match=r"ptb\.test\.txt must hold a text, got an empty file"):
        sources.read_text(paths)


def test_a_split_of_a_text_that_is_missing_is_asked_for(folder):
    (folder / "ptb.valid.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"ptb\.valid\.txt is not there: .*ptb\.valid\.txt has it"):
        sources.pieces("Penn Treebank")


def test_a_text_is_to_be_longer_than_one_foretells(folder):
    with pytest.raises(ValueError, match="ahead must be below 10, the symbols of the test split, got 10"):
        Characters(ahead=10).split("test")


def test_texts_of_other_symbols_are_named(folder):
    paths = [folder / f"ptb.{name}.txt" for name in ("train", "valid", "test")]
    paths[1].write_text("abc é")
    with pytest.raises(ValueError, match=r"ptb\.valid\.txt must be of the symbols of ptb\.train\.txt, got 'é'"):
        sources.read_text(paths)
    paths[0].write_text(WORDS)
    with pytest.raises(ValueError, match=r"ptb\.train\.txt must be of 50 symbols, got 49"):
        sources.read_text(paths)


def test_lines_lose_the_spaces_around_them_and_end_in_a_symbol(folder):
    symbols = sorted({*WORDS, " ", "\n"})
    texts = {split: "".join(symbols[i] for i in held[0]) for split, held in sources.pieces("Penn Treebank").items()}
    assert texts["validation"] == "abc d\n\nnone of these stretches is like another\n"
    assert texts["test"] == "dcba dcba\n"
    assert texts["train"] == TRAIN


def reading(task, updates, *, seeds=(0,), batch=1, stream=bits.TRAIN):
    """What each member's lanes read: (begins, inputs, targets), by member and lane."""
    chunk = task.chunk(torch.tensor(seeds), torch.tensor(updates), batch=batch, stream=stream)
    found = {(m, b): [] for m in range(len(seeds)) for b in range(batch)}
    for k, m, b in itertools.product(range(len(updates)), range(len(seeds)), range(batch)):
        n = int(chunk.lengths[k, m, b])
        both = (x[k, m, :n, b].numpy() for x in (chunk.inputs, chunk.targets))
        found[m, b].append((bool(chunk.begins[k, m, b]), *both))
    return found


def played(lane):
    """The pieces that were read in a row, as bytes, put together from their chunks; inputs are held to them."""
    whole = []
    for begins, inputs, targets in lane:
        before = np.zeros(88) if begins else whole[-1][-1]
        assert np.array_equal(inputs, np.concatenate([before[None], targets[:-1]]))
        whole = [*whole, targets] if begins else [*whole[:-1], np.concatenate([whole[-1], targets])]
    return [piece.astype(np.uint8).tobytes() for piece in whole]


def test_an_epoch_is_every_piece_once_from_silence_in_an_order_of_its_own(folder):
    task = Rolls("Nottingham", length=3)
    pieces = [piece.tobytes() for piece in rolls()["train"]]
    assert task.epoch() == sum(-(-n // 3) for n in LONG["train"]) == 13
    orders = []
    for epoch, seed in itertools.product((0, 1, 10**6), (0, 1, 2**62)):
        (lane,) = reading(task, [*range(13 * epoch, 13 * (epoch + 1))], seeds=[seed]).values()
        orders.append([pieces.index(piece) for piece in played(lane)])
        assert sorted(orders[-1]) == [0, 1, 2, 3, 4]
    assert len(set(map(tuple, orders))) > 6  # of 120 possible ones


def test_lanes_read_stretches_of_an_epoch_side_by_side(folder):
    task = Rolls("Nottingham", length=3)
    assert task.epoch(batch=4) == 4
    (alone,) = reading(task, [*range(13)]).values()
    lanes = reading(task, [*range(4)], batch=4)
    side_by_side = [chunk for lane in lanes.values() for chunk in lane][:13]
    for place, (one, other) in enumerate(zip(alone, side_by_side, strict=True)):
        assert all(np.array_equal(x, y) for x, y in zip(one[1:], other[1:], strict=True))
        assert other[0] == (one[0] or place % 4 == 0)
    again = [chunk for lane in lanes.values() for chunk in lane][13:]
    assert all(np.array_equal(x[2], y[2]) for x, y in zip(alone, again, strict=False))


def test_checks_read_the_validation_split_and_tests_after_the_end_the_test_split(folder):
    task = Rolls("Nottingham", length=20)
    for stream, split in ((bits.CHECK, "validation"), (bits.TEST, "validation"), (bits.FRESH, "test")):
        (lane,) = reading(task, [*range(len(LONG[split]))], stream=stream).values()
        assert sorted(played(lane)) == sorted(piece.tobytes() for piece in rolls()[split])


def test_a_character_is_told_so_many_steps_ahead(folder):
    symbols = sorted({*WORDS, " ", "\n"})
    spell = lambda numbers: "".join(symbols[i] for i in numbers)  # noqa: E731
    (lane,) = reading(task := Characters(ahead=5, length=8), [*range(6)]).values()
    assert task.epoch() == 6  # 46 steps
    assert "".join(spell(inputs) for _, inputs, _ in lane) == TRAIN[:-5]
    assert "".join(spell(targets) for _, _, targets in lane) == TRAIN[5:]
    assert [begins for begins, *_ in lane] == [True] + 5 * [False]


def test_a_text_is_read_in_stretches_whose_order_is_drawn(folder, monkeypatch):
    monkeypatch.setattr(corpora, "STRETCH", 2)
    (lane,) = reading(Characters(length=4), [*range(13)]).values()  # 50 steps: six stretches of 8, and 2 steps
    text = sources.pieces("Penn Treebank")["train"][0]
    begun = [inputs[0] for begins, inputs, _ in lane if begins]
    assert sorted(begun) == sorted(text[:-1:8].tolist())
    assert begun != text[:-1:8].tolist()
    assert sorted(x.tobytes() for _, x, _ in lane) == sorted(x.numpy().tobytes() for x in text[:-1].split(4))


@pytest.mark.parametrize("task", [Rolls("chords"), Rolls("chords", 7), Rolls("Nottingham", 2), Characters(2, 9)])
def test_they_keep_what_a_task_promises(folder, task, monkeypatch):
    monkeypatch.setattr(corpora, "STRETCH", 1)
    assert check_task(task) == []


def test_made_up_music_is_what_it_is_said_to_be():
    pieces = [roll for rolls in sources.pieces("chords").values() for roll in rolls]
    assert all((roll.sum(dim=1) == 4).all() for roll in pieces)
    chords = [roll.float().argmax(dim=1) for roll in pieces]
    assert {int(one) for chord in chords for one in chord} == {28, 32, 36, 40, 44, 48, 52, 56}
    assert all(
        bool(roll[t, c : c + 4].all()) for roll, chord in zip(pieces, chords, strict=True) for t, c in enumerate(chord)
    )
    kept = torch.cat([chord[1:] == chord[:-1] for chord in chords]).double()
    assert kept.mean() == pytest.approx(25 / 32, abs=3 * math.sqrt(25 * 7 / 32**2 / len(kept)))


def trained(task, seeds=2, **changes):
    spec = {"batch": 1, "units": 5, "updates": 40, "check_every": 20, "check_sequences": 4, "confirm_sequences": 4}
    spec |= {"task": task, "init": SigmoidInit(0.5), "algorithm": rnnlab.Algorithm(0.3), "stop": "never"}
    return Spec(**spec | changes), seeds


def by_hand(network, roll):
    """Nats of every step of a roll, in float64 and step by step."""
    x, h, nats = torch.zeros(88, dtype=torch.float64), torch.zeros(network.b.shape[-1], dtype=torch.float64), []
    for target in torch.from_numpy(roll).double():
        h = torch.sigmoid(network.W_rec @ h + network.W_in @ x + network.b)
        p = torch.sigmoid(network.W_out @ h + network.b_out)
        nats.append(-(target * p.log() + (1 - target) * (1 - p).log()).sum())
        x = target
    return torch.stack(nats)


@pytest.mark.parametrize("length", [2, 5, 200])
@pytest.mark.parametrize("split", [*SPLITS])
def test_a_split_is_measured_by_all_its_steps_whatever_the_windows(folder, split, length, monkeypatch):
    monkeypatch.setattr(corpora, "TOGETHER", 2)
    spec, seeds = trained(Rolls("Nottingham", length))
    ensemble = Ensemble(spec, seeds, device="cpu")
    ensemble.advance(40)
    found = SplitLoss(split)(ensemble)
    for m in range(seeds):
        one = ensemble.parameters.select([m]).to(torch.float64)
        views = type("One", (), {name: x[0] for name, x in one.views.items()})
        want = torch.cat([by_hand(views, roll) for roll in rolls()[split]]).mean()
        assert found[m].item() == pytest.approx(want.item(), rel=2e-6)  # float32


def test_training_takes_the_splits_down_and_ends_with_the_networks_of_the_best_check():
    measures = tuple(SplitLoss(split) for split in SPLITS)
    how = {"rate": rnnlab.Halving("validation_loss"), "choose": rnnlab.Lowest("validation_loss"), "measures": measures}
    spec, seeds = trained(Rolls("chords"), **how, updates=60)
    runs = rnnlab.train(spec, seeds=seeds, device="cpu", progress=False)
    assert [runs[f"{split}_loss"].attrs["units"] for split in SPLITS] == 3 * ["loss"]
    assert (np.diff(runs["train_loss"], axis=1) < 0).all()
    best = runs["update"].values[runs["validation_loss"].argmin("check")]
    assert np.array_equal(runs["chosen_at"], best)


def test_a_task_without_splits_has_no_loss_on_them():
    spec, _ = trained(TemporalOrder(10), measures=(SplitLoss(),))
    with pytest.raises(
        ValueError, match=r"task must be one with splits for SplitLoss, such as Rolls\(\), got Temporal"
    ):
        rnnlab.train(spec, seeds=1, device="cpu", progress=False)


def test_counts_in_rolls_foretell_others():
    rolls = [torch.zeros(n, 88, dtype=torch.uint8) for n in (3, 1, 4)]
    rolls[0][:, 0], rolls[2][:2, 0] = 1, 1
    # Key 0 sounds in the steps 111 of one piece, and in no step of the other: in the test in 1100.
    share, first, on, off = 3.5 / 5, 1.5 / 3, 2.5 / 3, 0.5 / 1
    silent = -87 * np.log([1 - 0.5 / 5, 1 - 0.5 / 3, 1 - 0.5 / 3])  # of keys that never sound: all, first, later steps
    marginal = silent[0] - np.log([share, share, 1 - share, 1 - share]).mean()
    markov = (silent[1] + 3 * silent[2]) / 4 - np.log([first, on, 1 - on, 1 - off]).mean()
    assert sources.by_counts(rolls[:2], rolls[2:]) == pytest.approx((marginal, markov), rel=1e-12)


def test_counts_in_made_up_music_come_to_its_entropy():
    entropy = lambda p: -p * np.log(p) - (1 - p) * np.log(1 - p)  # noqa: E731
    pieces = sources.pieces("chords")
    best = 4 * entropy(25 / 32) + 28 * entropy(1 / 32)
    steps = sum(map(len, pieces["test"]))
    # A step in which the chord changes costs 15.1 nats more than one in which it stays.
    more = 4 * np.log(25 / 7) + 4 * np.log(31)
    assert sources.by_counts(pieces["train"], pieces["test"])[1] == pytest.approx(
        best, abs=3 * more * math.sqrt(25 * 7 / 32**2 / steps)
    )


# Of the real corpora: sequences and steps by split, chunks of 200, and nats a step on the test split by each key's
# share of the training split's steps, and by its shares after a step with and without it. The numbers are those of an
# independent prototype, which foretold a piece's first step by the shares of first steps.
REAL = {
    "Piano_midi": (((87, 75_911), (12, 8_540), (25, 19_036)), 419, 11.046, 8.261),
    "Nottingham": (((694, 176_561), (173, 45_513), (170, 44_463)), 1_166, 10.252, 5.162),
    "MuseData": (((524, 245_202), (135, 82_755), (124, 64_339)), 1_478, 11.510, 8.558),
    "JSB_Chorales": (((229, 13_807), (76, 4_602), (77, 4_725)), 229, 11.060, 10.435),
}


def real(corpus):
    """The pieces of a corpus, where it is."""
    try:
        return sources.pieces(corpus)
    except FileNotFoundError as reason:
        pytest.skip(f"needs a corpus: {reason}")


@pytest.mark.parametrize("corpus", REAL)
def test_the_real_rolls_have_their_steps_and_counts_of_them_their_errors(corpus):
    pieces, (sizes, updates, marginal, markov) = real(corpus), REAL[corpus]
    assert tuple((len(those), sum(map(len, those))) for those in pieces.values()) == sizes
    assert Rolls(corpus).epoch() == updates
    assert sources.by_counts(pieces["train"], pieces["test"]) == pytest.approx((marginal, markov), abs=6e-4)


def test_the_real_text_has_its_characters_and_their_counts_their_bits():
    texts = {split: held[0] for split, held in real("Penn Treebank").items()}
    assert [len(text) for text in texts.values()] == [5_017_482, 393_042, 442_423]
    counts = torch.bincount(texts["train"].long(), minlength=50).double()
    share = counts / counts.sum()
    assert -share[texts["test"].long()].log2().mean().item() == pytest.approx(4.346, abs=6e-4)
