"""`python -m bench peers`: the same work on this server and on what a user would pick instead, in turns, in one run.

Each peer is one module with what its own documentation has a user write: a producer, and a worker. `roster` says which there are and how
they are set up, `servers` starts what they need, `actor` is the process that a producer or a worker runs in, `sessions` measures,
`report` writes it down.
"""
