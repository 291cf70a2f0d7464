"""The engine for CPUs: whole updates of one member by one fused kernel."""
