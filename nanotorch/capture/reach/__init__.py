"""What a function can reach, and whether it still finds there what it found."""
