"""AIR: a laptop with a database of its own. What it changes offline is pushed, what the primary changes is pulled."""
