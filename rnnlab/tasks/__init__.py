"""What networks are to learn: a specification in, chunks of batches out."""
