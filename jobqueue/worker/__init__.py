"""The Worker: takes jobs, runs handlers, reports how they ended."""
