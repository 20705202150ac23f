"""What people write instead: the same model, tokenizer, threads and wire format."""
