"""`python -m bench sqs`: Amazon SQS's API as this server speaks it, beside other servers that can be run here.

Each session is a server and its clients, all new; sessions of all servers come in turns, and each turn in another order. What a server
costs is read from its processes' own clocks. Clients: raw HTTP, which keeps a server busy, and boto3, which is what people have.
"""
