"""Deterministic simulation of the whole server; docs/testing.md says what it does and what it found."""
