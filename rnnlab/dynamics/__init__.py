"""The network as a dynamical system: Jacobians of its steps and what becomes of their products."""
