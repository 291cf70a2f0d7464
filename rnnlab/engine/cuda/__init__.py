"""The engine for GPUs: whole updates of one member by one block of threads."""
