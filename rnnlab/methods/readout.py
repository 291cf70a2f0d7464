"""Echo state networks: a recurrent network that stays as it was drawn, and a read-out found by least squares."""

import torch
from torch import Tensor
from torch.nn import functional

from rnnlab.descent.clipping import State
from rnnlab.engine.contract import CARRIED, Trace, counted
from rnnlab.methods.method import Networks
from rnnlab.tasks.task import Batch, Chunk
from rnnlab.values import Positive, value


@value
class Readout:
    """Ridge regression of targets, or of classes as 0 and 1, on states: of all that was seen, at every update.

    It leaves the rest of the network alone, and minimizes the mean squared error plus `ridge` |W_out|^2, whatever the
    task's loss is, which is taken down and tested.

    Args:
        ridge: weight of |W_out|^2, in squared units of the targets over those of the states.

    Source:
        Jaeger & Haas 2004, "Harnessing nonlinearity"; Hoerl & Kennard 1970, "Ridge regression".
    """

    ridge: Positive = 1e-6

    def init(self, network: Networks) -> State:
        """Nothing was seen: products of states (and a 1) with each other and with targets are zero, in float64."""
        theta, rows, O = network.parameters.theta, network.parameters.sizes.units + 1, network.parameters.sizes.outputs
        zeros = theta.new_zeros(len(theta), rows, rows + O, dtype=torch.float64)
        return {"squares": zeros[..., :rows], "products": zeros[..., rows:]}

    def advance(self, network: Networks, state: State, batches: Chunk) -> tuple[State, Trace]:
        """Add each batch to what was seen, and solve for W_out and b_out."""
        p, state, losses = network.parameters, dict(state), []
        for batch in batches:
            h, end = _states(network, batch, state.get(CARRIED))
            scored, targets = counted(batch, network.loss), batch.targets
            y = h @ p.W_out[:, None].mT + p.b_out[:, None, None]
            wanted = targets.to(y.dtype) if network.loss.real_targets else targets
            losses.append(network.loss.value(y, wanted, scored))
            if not network.loss.real_targets:
                wanted = functional.one_hot(targets.long(), p.sizes.outputs)
            x = functional.pad(h, (0, 1), value=1.0).double().where(scored[..., None], 0.0).flatten(1, 2)
            state["squares"] = state["squares"] + x.mT @ x
            state["products"] = state["products"] + x.mT @ wanted.double().flatten(1, 2)
            state |= {} if batch.begins is None else {CARRIED: end}
            self._solve(network, state)
        return state, Trace.of({"loss": torch.stack(losses)})

    def _solve(self, network: Networks, state: State) -> None:
        squares = state["squares"].clone()
        diagonal = squares.diagonal(dim1=1, dim2=2)
        diagonal[:, :-1] += self.ridge * diagonal[:, -1:]  # times how many were seen; the bias is not held back
        found = torch.linalg.solve(squares, state["products"])
        network.parameters.W_out.copy_(found[:, :-1].mT)
        network.parameters.b_out.copy_(found[:, -1])


def _states(network: Networks, batch: Batch, h_0: Tensor | None) -> tuple[Tensor, Tensor]:
    """The states that outputs are read from, `M S B N`, and those at the end, `M B width`."""
    N = network.parameters.sizes.units
    if not network.loss.every_step:
        _, end = network.outputs(batch, h_0=h_0)
        return end[:, None, :, :N], end
    states = network.gradients(batch, h_0=h_0).states
    return states[:, 1:, :, :N], states[:, -1]
