"""A finished run put to use: predictions, scores on new rows, exports."""
