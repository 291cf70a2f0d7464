"""Engines: `gradients(...)` and `sgd(...)` under one contract, by independent back ends."""
