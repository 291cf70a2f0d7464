"""How networks learn, under one contract."""
