"""Engines: gradients and whole updates under one contract, by independent back ends."""
