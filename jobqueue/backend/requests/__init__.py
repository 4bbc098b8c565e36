"""Operations that consist of one request and one answer, as structs: `await backend.ask(PutSchedule(…))`.

Frequent operations are methods of `Backend`. The others would be the same five lines in every backend, so each is written once: a struct
with its arguments, how it is carried out, and what a caller whose token is limited to some queues can ask for. The struct is sent to other
servers as it is. To add a part of the server: a file here, and its requests in `ALL` (every.py).
"""
