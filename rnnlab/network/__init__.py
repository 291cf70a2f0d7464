"""The networks: their equations, parameters, initializations and losses."""
