"""Models that see: their image processor, their heads, and the runner of both. Brings in torch."""
