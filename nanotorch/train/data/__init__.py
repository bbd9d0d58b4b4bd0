"""Tables: read from files or scikit-learn, checked, split, and prepared for a model."""
