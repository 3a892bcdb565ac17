"""The knowledge base: documents go in as chunks with vectors, answers come out."""
