"""The embedding service: text in, unit vectors out."""
