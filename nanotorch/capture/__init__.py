"""What stands behind `nanotorch.compile`: a step is recorded once as a program over arrays, which is then replayed."""
