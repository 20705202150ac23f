"""One file a peer: our model behind its HTTP and its batching. Run in the peer's environment."""
