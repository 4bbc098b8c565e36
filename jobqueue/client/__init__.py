"""The Python clients. They talk HTTP and know nothing of the server's insides.

`jobqueue` offers everything public of it, loaded when it is asked for; here nothing is imported, so that each part loads only
what it needs.
"""
