"""What a computation will take: memory, time, method."""
