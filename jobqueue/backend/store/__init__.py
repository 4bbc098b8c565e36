"""Many servers on one queue: one of them owns it and runs the engine, its rows are in a store, the others forward to it.

docs/decisions/0019 says why it is an owner that moves, and not an engine that is shared.
"""
