"""What is particular to the local backend: its waiters, its ticker, its journal seam."""
