"""What the cells of a column mean: numbers, categories, dates, texts."""
