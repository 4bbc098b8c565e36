"""Real servers on a real store, killed and stopped under load, and the books of their clients: `python -m tests.faults.many`."""
