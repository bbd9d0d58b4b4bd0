"""The sections of the page of a run: what each of them shows."""
