"""Faults and bad input, injected for real. The number in a test's name is its row in the table of faults."""
