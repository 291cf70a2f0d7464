"""Counter-based random numbers: a pure function of (seed, stream, update, position), the same on every device."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from rnnlab import machine
from rnnlab.values import whole

Seeds = Int64[Tensor, "M"]
Updates = Int64[Tensor, "K"]
Drawn = Int64[Tensor, "K M count"]
Real = Float32[Tensor, "K M count"]

# Streams. A purpose and a variable share one number: 16 variables a purpose.
VARIABLES = 16
TRAIN, CHECK, TEST, INIT, FRESH, NOISE = (VARIABLES * purpose for purpose in range(6))

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
WORDS = 4  # 32-bit words a counter yields
_TILE = 2**17  # counters that are worked on at once


def _multiply(a: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """High and low word of a 32 x 32 bit product; int64 wraps modulo 2^64, so the bits are right."""
    product = a * constant
    return (product >> 32).bitwise_and_(_MASK), product.bitwise_and_(_MASK)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Four 32-bit words (in int64) for each 128-bit counter under a 64-bit key: Philox4x32-10.

    Args:
        counter: four tensors of 32-bit words, in int64, broadcastable.
        key: two such tensors.

    Source:
        Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _checked(stream: int, start: int, count: int) -> tuple[int, int, int]:
    stream = whole("stream", stream, at_least=0, at_most=_MASK)
    start = whole("start", start, at_least=0, at_most=2**40)
    return stream, start, whole("count", count, at_least=0, at_most=2**40)


def _tile(words: Tensor) -> int:
    """Counters of each (update, seed) at a time: what is on the way to their words stays in a cache."""
    each = words.shape[0] * words.shape[1]
    return max(1, _TILE // max(1, each) if words.device.type == "cpu" else words.shape[2])


def bits(seeds: Seeds, updates: Updates, *, stream: int, start: int, count: int) -> Drawn:
    """32-bit words number `start` to `start + count` of every (seed, update), as int64 in [0, 2^32).

    Args:
        seeds: one 63-bit seed per member; they set the device.
        updates: update numbers, from 0 to 2**56 - 1.
        stream: which variable is drawn.
        start: position of the first word; words are a function of their position, so any window can be drawn alone.
        count: how many words.

    Raises:
        ValueError: an update is out of range, `stream` is no integer from 0 to 2**32 - 1, or `start` or `count` none
            from 0 to 2**40.
    """
    stream, start, count = _checked(stream, start, count)
    low, high = map(int, updates.aminmax()) if updates.numel() else (0, 0)
    if not 0 <= low <= high < 2**56:
        raise ValueError(f"updates must be from 0 to 2**56 - 1, got {low} to {high}")
    if seeds.is_cuda and machine.triton_lacks() is None:
        from rnnlab.words import draw

        return draw(seeds, updates.to(seeds.device), stream=stream, start=start, count=count)
    first, last = start // WORDS, -(-(start + count) // WORDS)
    position = torch.arange(first, last, dtype=torch.int64, device=seeds.device)
    update = updates.to(seeds.device)[:, None, None]
    seed = seeds[None, :, None]
    key, which = (seed & _MASK, (seed >> 32) & _MASK), torch.full_like(update, stream)
    words = seeds.new_empty(len(updates), len(seeds), len(position), WORDS)
    for place, tile in zip(position.split(size := _tile(words)), words.split(size, dim=2), strict=True):
        top = place >> 32
        if high >> 32:  # positions end below 2**39, so their high word has room for an update's
            top = top | update >> 32 << 8
        for i, word in enumerate(philox((place & _MASK, update & _MASK, which, top), key)):
            tile[..., i] = word
    return words.flatten(-2)[..., start - WORDS * first :][..., :count]


def integers(seeds: Seeds, updates: Updates, *, high: int, stream: int, count: int, start: int = 0) -> Drawn:
    """Integers uniform on [0, high).

    A power of two up to 256 takes eight bits of a word and is exactly uniform; any other `high` takes a whole word,
    and is uniform to `high` parts in 2^32.

    Raises:
        ValueError: `high` is not in 1 .. 2^31.
    """
    high = whole("high", high, at_most=2**31)
    stream, start, count = _checked(stream, start, count)
    if high > 256 or high & (high - 1):
        return (bits(seeds, updates, stream=stream, start=start, count=count) * high) >> 32
    first, last = start // 4, -(-(start + count) // 4)
    words = bits(seeds, updates, stream=stream, start=first, count=last - first)
    shifts = torch.arange(0, 32, 8, dtype=torch.int64, device=seeds.device)
    bytes_ = (words[..., None] >> shifts).bitwise_and_(high - 1).flatten(-2)
    return bytes_[..., start - 4 * first :][..., :count]


def uniforms(seeds: Seeds, updates: Updates, *, stream: int, count: int, start: int = 0) -> Real:
    """Numbers uniform on [0, 1): (word >> 8) x 2^-24, exact in float32."""
    return (bits(seeds, updates, stream=stream, start=start, count=count) >> 8).to(torch.float32) * 2.0**-24


def normals(seeds: Sequence[int], *, stream: int, count: int) -> Float64[Tensor, "M count"]:
    """Standard normal numbers by Box and Muller's transform of 53-bit uniforms, on the CPU in float64."""
    seeds_ = torch.tensor(list(seeds), dtype=torch.int64, device="cpu")
    words = bits(seeds_, seeds_.new_zeros(1), stream=stream, start=0, count=4 * count)[0]
    high, low = words[:, 0::2] >> 5, words[:, 1::2] >> 6
    u = (high * 2**26 + low).to(torch.float64) * 2.0**-53
    return (-2 * torch.log1p(-u[:, 0::2])).sqrt() * torch.cos(2 * math.pi * u[:, 1::2])


def disturbances(seeds: Seeds, updates: Updates, *, count: int, start: int = 0) -> Float64[Tensor, "K M count"]:
    """Standard normal numbers, cheap enough to be drawn at every step: Box and Muller's transform of 24-bit uniforms.

    Numbers 2 i and 2 i + 1 are the cosine's and the sine's of words 2 i and 2 i + 1 of the stream `NOISE`; none is
    beyond 5.8 standard deviations.

    Raises:
        ValueError: as `bits`.
    """
    _, start, count = _checked(NOISE, start, count)
    first, last = start // 2, -(-(start + count) // 2)
    words = bits(seeds, updates, stream=NOISE, start=2 * first, count=2 * (last - first)) >> 8
    u, angle = (words[..., 0::2] + 1).double() * 2.0**-24, words[..., 1::2].double() * (2 * math.pi * 2.0**-24)
    pairs = (-2 * u.log()).sqrt()[..., None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
    return pairs.flatten(-2)[..., start - 2 * first :][..., :count]


def permutations(seeds: Sequence[int], *, stream: int, count: int, size: int) -> Int64[Tensor, "M count size"]:
    """`count` random orders of 0 .. size - 1 per member, on the CPU."""
    seeds_ = torch.tensor(list(seeds), dtype=torch.int64, device="cpu")
    keys = bits(seeds_, seeds_.new_zeros(1), stream=stream, start=0, count=count * size)[0]
    return keys.reshape(len(seeds_), count, size).argsort(dim=-1, stable=True)
