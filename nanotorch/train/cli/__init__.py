"""The command lines, a file for each: what they take, and what they tell a user whose arguments cannot be meant.

They import what does the work when the arguments are known to be good, so that `--help` answers at once.
"""
