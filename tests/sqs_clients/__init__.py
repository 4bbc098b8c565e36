"""Real clients of Amazon SQS do their work on a real server: `python -m tests.sqs_clients.run`.

Each set of clients has an environment of its own, made by `environments.py`. What they do stands in `checks`, which run there, by pytest or
by Node's test runner. They know the server by its address alone, and import nothing of ours.
"""
