"""Divisions of a table that its file says: by groups of rows, by time, by a column, or by files."""
