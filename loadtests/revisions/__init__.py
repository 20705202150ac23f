"""Two checkouts of this project beside each other: how fast each is, what a request passes."""
