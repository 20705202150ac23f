"""What a start has found out, kept on disk for the next one."""
