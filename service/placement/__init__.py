"""How many replicas, on which device, on which cores."""
