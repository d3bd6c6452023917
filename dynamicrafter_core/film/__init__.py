"""Films: shots in a row, made one take at a time and joined while they are written."""
