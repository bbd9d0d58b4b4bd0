"""What is read from rows: formulas as written, the op table, stubs and re-exports."""
