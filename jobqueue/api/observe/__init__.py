"""What an operator reads of the server: observers, metrics, the loop's lag."""
