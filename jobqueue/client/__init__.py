"""The Python clients. They use HTTP and do not depend on the server's internals.

`jobqueue` exports everything public from here and loads it on demand. Nothing is imported here, so that each part loads only what it needs.
"""
