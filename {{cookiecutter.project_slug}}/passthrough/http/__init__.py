"""What happens to a request: who is refused, who leaves, what ends, and what is answered."""
