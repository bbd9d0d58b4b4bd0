"""What stands behind `nanotorch.compile.sweep`: steps of one architecture that run as one program."""
