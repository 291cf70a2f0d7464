"""A call of many small CUDA kernels, captured once as a graph and replayed: Python and launches are paid for once."""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_CAPTURE = threading.Lock()  # PyTorch has one capture at a time in a process; others may train in other threads


class Replay:
    """A call whose kernels run again on other arguments, at the addresses at which they were captured.

    Args:
        call: reads its arguments and `changed` on one CUDA device, and waits for no number from it.
        arguments: of the shapes and dtypes of all calls to come.
        changed: what the call changes in place; left as it was.
    """

    def __init__(self, call: Callable[..., tuple[Tensor, ...]], *arguments: Tensor, changed: Sequence[Tensor]) -> None:
        self._arguments = tuple(argument.clone() for argument in arguments)
        before, device = [x.clone() for x in changed], changed[0].device
        here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            call(*self._arguments)  # libraries set themselves up at their first call, which cannot be captured
        here.wait_stream(aside)
        for x, held in zip(changed, before, strict=True):
            x.copy_(held)
        self._graph = torch.cuda.CUDAGraph()
        with _CAPTURE, torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local"):
            self._results = call(*self._arguments)

    def __call__(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """What the call returns for these arguments."""
        for held, given in zip(self._arguments, arguments, strict=True):
            held.copy_(given)
        self._graph.replay()
        return tuple(result.clone() for result in self._results)
