"""The commands that talk to a server: one click command each, loaded on demand (`lazy.py`).

Nothing here decides anything about jobs: a command reads its arguments, calls one operation of `jobqueue.Client` and shows the answer.
"""
