"""Measured costs, side by side with what they are compared to. Run them with `make bench`."""
