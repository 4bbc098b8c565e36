"""What an operator can observe: observers, metrics, the loop's lag."""
