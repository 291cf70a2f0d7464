"""Training against what noise makes of a state: two runs of each sequence, whose states should be the same."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Norm, State
from rnnlab.engine.contract import Rules, Trace, alive, cell_of, counted
from rnnlab.engine.unrolled import read, states
from rnnlab.methods.method import Networks, descended, plain
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import Count, Natural, Spread, refusal, settle


@dataclass(frozen=True)
class ConsistencyTraining:
    """Descent of the loss under noise, and of the distance of two runs of a sequence that differ in noise alone.

    Each sequence of a batch runs twice. What is descended is the loss, its mean over both runs, plus `weight` times the
    squared distance of their states, its mean over units, steps and sequences. Nothing has to be known of the task.

    Args:
        descent: makes the steps along the gradients; its noise is what the runs differ in.
        begin: number of the first update.
        updates: in which the learning rate falls to a tenth; in the first 80 % the weight grows to what it is.
        weight: of the distance, in the loss's unit.

    Raises:
        ValueError: the descent has omega or clips the signal, or a number is out of range.

    Source:
        Laine & Aila 2017, "Temporal ensembling for semi-supervised learning", section 2.1, of a network's
        outputs; Zolna et al. 2018, "Fraternal dropout", section 2, of a recurrent one's. Here it is of its states.
    """

    descent: Annotated[Algorithm, partial(plain, noise=True)] = AdamW(0.002, Norm(1.0), noise=1.0, decay=0.0)
    begin: Natural = 0
    updates: Count = 3000
    weight: Spread = 30.0

    def __post_init__(self) -> None:
        """Settle the fields."""
        settle(self)

    def init(self, network: Networks) -> State:
        """What the descent remembers."""
        return self.descent.init(network)

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Make an update by each batch; the loss that is taken down is without the distance.

        Raises:
            ValueError: sequences go on from update to update.
        """
        cell, loss = cell_of(network.parameters.sizes, network.sigma), network.loss
        if batches.begins is not None:
            raise refusal("task", "of sequences that begin anew in each update, for two runs of each", loss)
        rules, taken_down = Rules(cell, loss, self.descent, [0.0], seeds=network.seeds), []
        for k, one in enumerate(batches):
            number = network.update + k
            done = min(1.0, max(0, number - self.begin) / self.updates)
            descent = replace(self.descent, learning_rate=self.descent.learning_rate * (1 - 0.9 * done))
            batch = _twice(one)
            how = replace(rules, first_update=number).at(0, batch, network.parameters, state)
            cost = partial(self._cost, batch=batch, rules=how, weight=self.weight * min(1.0, done / 0.8))
            taken_down.append(descended(network.parameters, descent, state, cost))
        E, norm, events = map(torch.stack, zip(*taken_down, strict=True))
        return state, Trace.of({"loss": E, "norm": norm, "events": events})

    def _cost(self, parameters: Parameters, batch: Batch, rules: Rules, weight: float) -> tuple[Tensor, Tensor]:
        """The loss of both runs, and of their distance what it is weighed with, `M` each."""
        found, loss = states(parameters, batch, rules), rules.loss
        targets = batch.targets if batch.targets.is_floating_point() else batch.targets.long()
        E = loss.value(read(parameters, found, loss), targets, counted(batch, loss))
        first, second = torch.stack(found[1:], dim=1).chunk(2, dim=2)  # M T B width
        within = alive(batch.lengths, first.shape[1], device=E.device)[:, :, : first.shape[2]].expand(first.shape[:3])
        apart = (first - second).square().mean(dim=3).where(within, 0.0)
        return E, weight * apart.sum(dim=(1, 2)) / within.sum(dim=(1, 2))


def _twice(batch: Batch) -> Batch:
    """A batch with each sequence a second time, behind all the first."""
    lengths = batch.lengths if batch.lengths.ndim == 1 else batch.lengths.repeat(1, 2)
    inputs, targets = (torch.cat((x, x), dim=2) for x in (batch.inputs, batch.targets))
    return Batch(inputs, targets, lengths)
