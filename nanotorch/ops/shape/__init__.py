"""Views of a tensor under another shape, copies with elements in other places, tensors joined and cut."""
