"""Training for all words of distractors at once: the worst case over boxes of states, by propagating bounds."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from rnnlab.descent.algorithm import AdamW, Algorithm
from rnnlab.descent.clipping import Norm, State
from rnnlab.engine.contract import Trace
from rnnlab.methods.method import Networks, descended, plain
from rnnlab.network.cells import Sigma
from rnnlab.network.parameters import Parameters
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import Count, Natural, Spread, checked, refusal, settle


@checked
def bounds(
    network: Parameters,
    batch: Batch,
    *,
    sigma: Sigma,
    telling: Natural = 2,
    spread: Spread = 1.0,
    slack: Spread = 0.0,
) -> Float[Tensor, "M 1 B O"]:
    """Upper bounds of what each output exceeds the asked one by, whatever the distractors are; of that one, 0.

    A state's box, of a center and radii, goes through a step by its ends, since sigma increases; a distractor's push is
    anywhere in the box around those of all of them. Rounding is not counted.

    Args:
        network: of M networks.
        batch: symbols, and the class that is asked at the last step; of the symbols only those that tell are read.
        sigma: non-linearity; increasing.
        telling: symbols below this one are those that tell something, all others are distractors.
        spread: share of the distractors' box, around its middle, dimensionless; at 0 all are alike, at 1 as they are.
        slack: what is added to every radius before sigma, in every step.

    Source:
        Gowal et al. 2018, "On the effectiveness of interval bound propagation", eqs. (6) to (8), (12).
    """
    W, push, V = network.W_rec.mT, (network.W_in + network.b[..., None]).mT, network.W_out
    least, most = push[:, telling:].amin(dim=1), push[:, telling:].amax(dim=1)
    symbols, (T, B) = batch.inputs.long(), batch.inputs.shape[1:]
    told = (symbols < telling)[..., None]
    given = push.gather(1, symbols.flatten(1)[..., None].expand(-1, -1, push.shape[2])).unflatten(1, (T, B))
    middle = torch.where(told, given, ((least + most) / 2)[:, None, None])  # M T B N
    radius = torch.where(told, 0.0, spread * ((most - least) / 2)[:, None, None]) + slack
    x = r = middle.new_zeros(middle[:, 0].shape)
    passed = []
    for u, q in zip(middle.unbind(1), radius.unbind(1), strict=True):
        a, q = x @ W + u, r @ W.abs() + q
        low, high = sigma(a - q), sigma(a + q)
        x, r = (low + high) / 2, (high - low) / 2
        passed.append(torch.cat((x, r), dim=-1))
    last = (batch.lengths.to(push.device) - 1).reshape(1, len(push), -1, 1)
    x, r = torch.stack(passed).gather(0, last.expand(1, *passed[0].shape))[0].chunk(2, dim=-1)
    asked = batch.targets[:, 0].long()[..., None]  # M B 1
    D = V[:, None] - V.gather(1, asked.expand(-1, -1, V.shape[2]))[:, :, None]  # M B O N
    c = network.b_out[:, None] - network.b_out[:, None].expand(-1, B, -1).gather(2, asked)
    return ((D * x[:, :, None]).sum(-1) + (D.abs() * r[:, :, None]).sum(-1) + c)[:, None]


@dataclass(frozen=True)
class BoxTraining:
    """Descent of the cross-entropy of `bounds`, which no word of distractors exceeds, its mean over classes.

    Args:
        descent: makes the steps along its gradients.
        begin: number of the first update.
        updates: in which the learning rate falls to a tenth; in the first 80 % the spread of distractors grows to 1.
        slack: what every pre-activation may be off by at every step.
        telling: symbols below this one are those that tell something.

    Raises:
        ValueError: the descent has noise or omega, or a number is out of range.

    Source:
        Gowal et al. 2018, section 3.
    """

    descent: Annotated[Algorithm, plain] = AdamW(0.001, Norm(1.0), decay=0.0)
    begin: Natural = 0
    updates: Count = 3000
    slack: Spread = 0.02
    telling: Natural = 2

    def __post_init__(self) -> None:
        """Settle the fields."""
        settle(self)

    def init(self, network: Networks) -> State:
        """What the descent remembers."""
        return self.descent.init(network)

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Make an update by each batch.

        Raises:
            ValueError: the cell is not the simple one, inputs are no symbols, or no class is asked for at the end.
        """
        loss, parameters, rate, taken_down = network.loss, network.parameters, self.descent.learning_rate, []
        if network.sigma is None or loss.every_step or loss.real_targets or batches.inputs.is_floating_point():
            raise refusal("task", "of symbols and of a class at the end, and the cell a simple one, for boxes", loss)
        for k, batch in enumerate(batches):
            done = min(1.0, max(0, network.update + k - self.begin) / self.updates)
            share, descent = min(1.0, done / 0.8), replace(self.descent, learning_rate=rate * (1 - 0.9 * done))
            how: dict[str, Any] = {"spread": share, "slack": share * self.slack, "telling": self.telling}
            cost = partial(_worst, batch=batch, sigma=network.sigma, **how)
            taken_down.append(descended(parameters, descent, state, cost))
        E, norm, events = map(torch.stack, zip(*taken_down, strict=True))
        return state, Trace.of({"loss": E, "norm": norm, "events": events})


def _worst(parameters: Parameters, batch: Batch, **how: Any) -> tuple[Tensor]:
    """The largest cross-entropy of `bounds`, its mean over the classes that are asked for, `M`."""
    asked = batch.targets[:, 0]
    alike = (asked[:, :, None] == asked[:, None]).sum(dim=2)  # M B, sequences of the same class
    y = bounds(parameters, batch, **how)[:, 0]
    return ((y.logsumexp(dim=-1) / alike).sum(dim=1) / (1 / alike).sum(dim=1),)
