"""The random words of `rnnlab.bits` on a GPU, in Triton: one launch in place of the hundred that PyTorch makes."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 512  # counters of one program


@triton.jit
def words(seed, update, stream, q, above):
    """The four words of counters `q + (above << 32)`, as `philox` has them."""
    low, high = (update & 0xFFFFFFFF).to(tl.uint32), (update >> 32 << 8).to(tl.uint32)
    return tl.philox(seed, q.to(tl.uint32), low, stream, high | above)


# Compiled once, not for each size that 16 divides, and for 1 anew.
@triton.jit(do_not_specialize=["stream", "start", "count", "counters", "rows", "M"])
def _draw(out, seeds, updates, stream, start, count, counters, rows, M, BLOCK: tl.constexpr):
    """All words of a block of counters, each row's one after another; a row is an update of a member."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, inside = i // counters, i < rows.to(tl.int64) * counters
    seed = tl.load(seeds + row % M, mask=inside, other=0)
    update = tl.load(updates + row // M, mask=inside, other=0)
    position = start // 4 + i % counters
    low, above = (position & 0xFFFFFFFF).to(tl.uint32), (position >> 32).to(tl.uint32)
    drawn = words(seed, update, stream.to(tl.uint32), low, above)
    for j in tl.static_range(4):
        at = 4 * position + j - start
        tl.store(out + row * count + at, drawn[j].to(tl.int64), mask=inside & (at >= 0) & (at < count))


def draw(seeds: Tensor, updates: Tensor, *, stream: int, start: int, count: int) -> Tensor:
    """What `bits` returns, unchecked; both tensors on one GPU, or on the CPU where Triton interprets."""
    rows, counters = len(updates) * len(seeds), -(-(start + count) // 4) - start // 4
    out = seeds.new_empty(len(updates), len(seeds), count)
    if programs := -(-rows * counters // _BLOCK):
        given = out, seeds.contiguous(), updates.contiguous(), stream, start, count, counters, rows, len(seeds)
        with torch.cuda.device_of(seeds):
            _draw[(programs,)](*given, _BLOCK)
    return out
