"""What is told of a run: figures, the page, the card of its data, comparisons."""
