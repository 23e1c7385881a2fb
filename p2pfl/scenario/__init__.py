"""What to run, the engines that run it, and what they found."""
