"""What is done for one input alone, before and after its batch, in CPU processes of its own."""
