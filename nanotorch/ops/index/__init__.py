"""Reading and writing at positions: indices, masks, slices."""
