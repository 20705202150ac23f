"""Backends that run an ONNX graph on a CPU."""
