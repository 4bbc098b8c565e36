"""The verbs of the command line that talk to a server: one click command each, loaded when it is asked for (`lazy.py`).

Nothing here decides anything about jobs: a verb reads its arguments, calls one operation of `jobqueue.Client` and shows the answer.
"""
