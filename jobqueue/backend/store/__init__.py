"""Several servers on one queue: one of them owns it and runs the engine, the rows are in a store, and the other servers forward requests to
the owner.

docs/decisions/0019 explains why ownership moves between servers, instead of one engine that they share.
"""
