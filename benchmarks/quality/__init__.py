"""How well networks predict tables: the tables, and the contestants."""
