"""The storage of jobs: the `Backend` contract, and the local backend, which implements it in this process."""
