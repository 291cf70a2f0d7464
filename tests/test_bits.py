"""Counter-based random numbers against published answers and exact arithmetic."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlab import bits
from tests.chance import Z, assert_from, assert_uncorrelated

ANSWERS = [  # Salmon et al. 2011, known-answer tests of Philox4x32-10: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def longs(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS)
def test_philox_gives_the_published_answers(counter, key, words):
    got = bits.philox([longs(c) for c in counter], [longs(k) for k in key])
    assert tuple(int(word) for word in got) == words


@given(start=st.integers(0, 40), count=st.integers(1, 40), seed=st.integers(0, 2**63 - 1), update=st.integers(0, 10**7))
def test_a_window_of_bits_is_that_part_of_the_whole(start, count, seed, update):
    whole = bits.bits(longs(seed), longs(update), stream=3, start=0, count=80)
    window = bits.bits(longs(seed), longs(update), stream=3, start=start, count=count)
    assert torch.equal(window, whole[..., start : start + count])


@given(high=st.sampled_from([1, 2, 4, 8, 256, 3, 98, 2**31]), start=st.integers(0, 9), count=st.integers(1, 30))
def test_a_window_of_integers_is_that_part_of_the_whole_and_in_range(high, start, count):
    draw = {"high": high, "stream": 5}
    whole = bits.integers(longs(7, 8), longs(0, 1), start=0, count=40, **draw)
    window = bits.integers(longs(7, 8), longs(0, 1), start=start, count=count, **draw)
    assert torch.equal(window, whole[..., start : start + count])
    assert 0 <= int(whole.min()) <= int(whole.max()) < high


def test_numbers_depend_on_seed_update_and_stream_and_not_on_company():
    together = bits.bits(longs(1, 2, 3), longs(0, 1), stream=0, start=0, count=8)
    alone = bits.bits(longs(2), longs(1), stream=0, start=0, count=8)
    assert torch.equal(together[1, 1], alone[0, 0])
    flat = together.reshape(6, 8)
    other = bits.bits(longs(1), longs(0), stream=1, start=0, count=8).reshape(1, 8)
    assert len({tuple(row.tolist()) for row in torch.cat((flat, other))}) == 7


def test_no_two_of_many_seeds_updates_and_streams_share_words():
    seeds = longs(0, 1, 2**32, 2**62, 2**63 - 1)
    updates = longs(0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**56 - 1)
    words = [bits.bits(seeds, updates, stream=s, start=0, count=4) for s in (0, 1, 15, 16, 32, 48, 63, 2**32 - 1)]
    far = bits.bits(seeds, updates, stream=0, start=2**40, count=4)  # where positions take their high word, too
    rows = torch.stack([*words, far]).flatten(0, 2)
    assert len(rows.unique(dim=0)) == len(rows) == 9 * 5 * 7


@pytest.mark.parametrize("update", [5, 2**32 + 5, 3 * 2**40 + 2**32, 2**56 - 1])
def test_a_counter_is_position_update_and_stream_and_its_last_word_holds_what_is_high_of_both(update):
    seed, stream, start = 2**62 + 9, 48, 2**40 - 8  # position 2**38 - 2, whose high word is 2**6 - 1
    position = start // 4
    low = 2**32 - 1
    counter = (position & low, update & low, stream, (position >> 32) + (update >> 32) * 256)
    want = bits.philox([longs(c) for c in counter], [longs(seed & low), longs(seed >> 32)])
    got = bits.bits(longs(seed), longs(update), stream=stream, start=start, count=4)
    assert got.flatten().tolist() == [int(word) for word in want]


def test_of_no_updates_or_no_seeds_there_are_no_words():
    assert bits.bits(longs(), longs(0, 1), stream=0, start=0, count=3).shape == (2, 0, 3)
    assert bits.bits(longs(4, 5), longs(), stream=0, start=0, count=3).shape == (0, 2, 3)
    assert bits.integers(longs(4, 5), longs(), high=4, stream=0, count=3).shape == (0, 2, 3)


def test_a_byte_of_a_word_is_one_integer_below_a_power_of_two_from_the_lowest_on():
    (word,) = bits.bits(longs(3), longs(2), stream=1, start=1, count=1).flatten().tolist()
    for high in (1, 2, 16, 256):
        drawn = bits.integers(longs(3), longs(2), high=high, stream=1, start=4, count=4).flatten().tolist()
        assert drawn == [word // 256**i % high for i in range(4)]
    (word,) = bits.bits(longs(3), longs(2), stream=1, start=4, count=1).flatten().tolist()
    assert bits.integers(longs(3), longs(2), high=512, stream=1, start=4, count=1).item() == word * 512 // 2**32


def test_a_window_computes_its_own_words_and_no_others(monkeypatch):
    """At 10^8 steps all that came before would not fit into memory."""
    asked, philox = [], bits.philox
    monkeypatch.setattr(bits, "philox", lambda counter, key: asked.append(counter[0].numel()) or philox(counter, key))
    bits.bits(longs(0), longs(0), stream=0, start=4003, count=5)  # of counters 1000 and 1001
    bits.integers(longs(0), longs(0), high=8, stream=0, start=16_000, count=32)  # of 8 words, of counters 1000 and 1001
    bits.integers(longs(0), longs(0), high=8, stream=0, start=16_015, count=2)  # of words 4003 and 4004
    assert asked == [2, 2, 2]


def test_purposes_and_variables_share_one_numbering_of_streams():
    assert (bits.TRAIN, bits.CHECK, bits.TEST, bits.INIT, bits.FRESH, bits.NOISE) == (0, 16, 32, 48, 64, 80)


def test_orders_are_by_the_words_of_each_member():
    words = bits.bits(longs(5, 6), longs(0), stream=7, start=0, count=12)[0].tolist()
    found = bits.permutations([5, 6], stream=7, count=3, size=4).tolist()
    for m, row in enumerate(words):
        for c in range(3):
            part = row[4 * c : 4 * c + 4]
            assert found[m][c] == sorted(range(4), key=part.__getitem__)


def test_purposes_draw_words_that_are_independent_bit_by_bit():
    purposes = (bits.TRAIN, bits.CHECK, bits.TEST, bits.INIT)
    n, bit = 20_000, 2 ** torch.arange(32)
    words = [bits.bits(longs(0, 1), longs(0), stream=purpose, start=0, count=n).flatten() for purpose in purposes]
    for one, other in itertools.combinations(words, 2):
        share = (((one ^ other)[:, None] & bit) == 0).double().mean(dim=0)
        assert float((share - 0.5).abs().max()) < 6 * math.sqrt(0.25 / (2 * n))  # chance exceeds it once in 2.6 million
        assert not set(one.tolist()) & set(other.tolist()[:100])
    assert len(set(purposes)) == 4
    assert all(purpose % 16 == 0 for purpose in purposes)


@pytest.mark.parametrize("high", [2**31, 2**31 - 1, 98, 300])
def test_integers_are_the_high_half_of_a_product_that_does_not_overflow(high):
    words = bits.bits(longs(2**63 - 1), longs(5), stream=1, start=0, count=500).flatten().tolist()
    drawn = bits.integers(longs(2**63 - 1), longs(5), high=high, stream=1, count=500).flatten().tolist()
    assert drawn == [word * high // 2**32 for word in words]


@pytest.mark.parametrize(
    ("argument", "value"),
    [("updates", longs(0, -1)), ("updates", longs(2**56)), ("stream", 2**32), ("start", 2**40 + 1), ("count", 2**41)],
)
def test_numbers_beyond_what_a_counter_holds_are_refused(argument, value):
    good = {"seeds": longs(0), "updates": longs(0), "stream": 0, "start": 0, "count": 1}
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        bits.bits(**good | {argument: value})


@pytest.mark.parametrize("high", [4, 98])
def test_integers_are_uniform(high):
    drawn = bits.integers(longs(0), longs(0), high=high, stream=0, count=100_000).flatten()
    expected = len(drawn) / high
    chi2 = float(((torch.bincount(drawn, minlength=high) - expected) ** 2 / expected).sum())
    # chi squared of k degrees of freedom has mean k and variance 2k; five standard deviations.
    assert abs(chi2 - (high - 1)) < 5 * math.sqrt(2 * (high - 1))


def test_uniforms_are_multiples_of_two_to_the_minus_24_below_one():
    u = bits.uniforms(longs(0, 1), longs(0), stream=0, count=10_000)
    words = bits.bits(longs(0, 1), longs(0), stream=0, start=0, count=10_000)
    assert torch.equal(u.double() * 2**24, (words // 256).double())
    assert 0 <= float(u.min()) <= float(u.max()) < 1


def test_normals_are_box_and_mullers_transform_of_the_words():
    words = [int(w) for w in bits.bits(longs(9), longs(0), stream=2, start=0, count=8).flatten()]
    want = []
    for a, b, c, d in (words[:4], words[4:]):
        u, v = ((a >> 5) * 2**26 + (b >> 6)) / 2**53, ((c >> 5) * 2**26 + (d >> 6)) / 2**53
        want.append(math.sqrt(-2 * math.log1p(-u)) * math.cos(2 * math.pi * v))
    got = bits.normals([9], stream=2, count=2)[0].tolist()
    assert got == pytest.approx(want, rel=1e-14)


def test_normals_have_the_moments_of_the_normal_distribution():
    z = bits.normals(range(10), stream=0, count=20_000).flatten()
    n = z.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < 5 * math.sqrt(variance / n)


def test_permutations_hold_every_number_once():
    orders = bits.permutations([0, 1], stream=0, count=20, size=50)
    assert torch.equal(orders.sort(dim=-1).values, torch.arange(50).expand(2, 20, 50))
    assert len({tuple(order.tolist()) for order in orders.flatten(0, 1)}) == 40


@pytest.mark.parametrize(("argument", "most"), [("stream", 2**32 - 1), ("start", 2**40), ("updates", 2**56 - 1)])
def test_the_largest_numbers_of_a_counter_are_taken(argument, most):
    given = {"seeds": longs(0), "updates": longs(0), "stream": 0, "start": 0, "count": 0}
    given[argument] = longs(most) if argument == "updates" else most
    assert bits.bits(**given).shape == (1, 1, 0)
    assert bits.integers(longs(0), longs(0), high=2**31, stream=0, count=0).shape == (1, 1, 0)


@pytest.mark.parametrize("high", [0, -1, 2**31 + 1])
def test_integers_refuse_a_range_that_is_empty_or_too_long(high):
    with pytest.raises(ValueError, match="high must be"):
        bits.integers(longs(0), longs(0), high=high, stream=0, count=1)


@pytest.mark.parametrize("counters", [1, 6, 20])  # of 6 for each position
def test_words_are_the_same_however_many_are_worked_on_at_once(monkeypatch, counters):
    asked = torch.tensor([0, 2**62 + 1]), torch.tensor([0, 7, 2**40 + 3])
    given = {"stream": 5, "start": 2**33 + 3, "count": 30}  # nine positions, whose tiles need not end with them
    want = bits.bits(*asked, **given)
    monkeypatch.setattr(bits, "_TILE", counters)
    assert torch.equal(bits.bits(*asked, **given), want)


def test_disturbances_are_the_cosine_and_the_sine_of_pairs_of_words_of_their_own_purpose():
    words = [int(w) >> 8 for w in bits.bits(longs(9), longs(4), stream=80, start=0, count=8).flatten()]
    want = []
    for u, turn in zip(words[::2], words[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log((u + 1) / 2**24)), 2 * math.pi * turn / 2**24
        want += [radius * math.cos(angle), radius * math.sin(angle)]
    got = bits.disturbances(longs(9), longs(4), count=8)
    assert got.dtype == torch.float64
    assert got.flatten().tolist() == pytest.approx(want, rel=1e-13, abs=1e-15)


@given(start=st.integers(0, 40), count=st.integers(0, 40))
def test_a_window_of_disturbances_is_that_part_of_the_whole(start, count):
    whole = bits.disturbances(longs(7, 8), longs(0, 2**33), count=80)
    window = bits.disturbances(longs(7, 8), longs(0, 2**33), start=start, count=count)
    assert torch.equal(window, whole[..., start : start + count])


def test_disturbances_depend_on_seed_and_update_and_not_on_company():
    together = bits.disturbances(longs(1, 2, 3), longs(0, 1), count=6)
    assert torch.equal(together[1, 1], bits.disturbances(longs(2), longs(1), count=6)[0, 0])
    assert len(together.flatten(0, 1).unique(dim=0)) == 6


def test_disturbances_are_normal_and_independent_of_each_other():
    z = bits.disturbances(longs(0, 1), longs(0, 7), count=100_000)  # update, seed, number
    n = z.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < Z * math.sqrt(variance / n)
    assert_from(z, torch.special.ndtr)
    assert float(z.abs().max()) <= math.sqrt(48 * math.log(2))  # of the least u, 2^-24
    # A pair shares its radius, and pairs their seed or their update.
    lags = [(z[..., :-lag], z[..., lag:]) for lag in (1, 2, 4)]
    for one, other in ((z[..., 0::2], z[..., 1::2]), (z[0], z[1]), (z[:, 0], z[:, 1]), *lags):
        assert_uncorrelated(one, other)
        assert_uncorrelated(one**2, other**2)


def test_disturbances_refuse_what_bits_refuse():
    for wrong in ({"count": -1}, {"count": 2**41}, {"count": 1, "start": -2}, {"count": 1, "start": 2**40 + 2}):
        with pytest.raises(ValueError, match=r"^(start|count) must be"):
            bits.disturbances(longs(0), longs(0), **wrong)
