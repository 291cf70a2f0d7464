"""The error on its way back, along a training."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.dynamics.backward import Signal, signal
from rnnlab.training.ensembles import Ensemble
from rnnlab.values import checked


@checked
def along(ensemble: Ensemble, stops: Iterable[int]) -> Iterator[tuple[int, Signal, Float[Tensor, "K M"]]]:
    """Train on to each stop, and take apart the sweep that the next update is going to make.

    Args:
        ensemble: trained in place.
        stops: numbers of updates, increasing, none below `ensemble.update`.

    Yields:
        The stop, the signal there, and the norms before clipping of the gradients since the last stop.
    """
    spec = ensemble.spec
    seeds = torch.tensor(ensemble.seeds, dtype=torch.int64, device="cpu")
    for stop in stops:
        passed = torch.zeros(0, len(seeds), dtype=torch.float32, device="cpu")
        if stop > ensemble.update:
            passed = ensemble.advance(stop - ensemble.update).norm.cpu()
        number = torch.tensor([stop], dtype=torch.int64, device="cpu")
        batch = spec.task.chunk(seeds, number, batch=spec.batch)[0]
        yield stop, signal(ensemble.parameters, batch, sigma=spec.init.sigma, loss=spec.task.loss), passed
