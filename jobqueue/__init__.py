"""A long-polling HTTP job queue: producers submit, workers block on dequeue, jobs are pushed to them."""

__version__ = "0.1.0"
