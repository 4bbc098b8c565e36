"""The durable journal in one file."""
