"""The network as a map, and what its Jacobians do to errors on their way back."""
