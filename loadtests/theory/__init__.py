"""What queueing theory says the best would be."""
