"""Operators that collapse or run along dimensions: sums, extrema, order, search, scans."""
