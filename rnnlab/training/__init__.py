"""A specification in, a record out."""
