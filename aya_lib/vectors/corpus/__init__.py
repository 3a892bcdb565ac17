"""Where vectors come from: a table, a file, a recipe; and the queries that are asked of them."""
