"""Who runs where, and who watches whom."""
