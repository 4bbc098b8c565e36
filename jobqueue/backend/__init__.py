"""Where jobs live: the `Backend` contract, and the local backend that keeps it in this process."""
