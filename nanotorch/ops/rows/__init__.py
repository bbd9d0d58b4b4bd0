"""The op row: how it is declared, compiled and run, in place or not, and what its samples are."""
