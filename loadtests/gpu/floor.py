"""The least time that a forward pass can take: its arithmetic, or reading the weights once."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """Of an encoder of the BERT family, by its config.json."""

    hidden: int
    layers: int
    inner: int

    @property
    def weights(self) -> int:
        """Of the layers: embeddings are looked up, not multiplied."""
        return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.inner)

    def operations(self, size: int, length: int) -> float:
        """Additions and multiplications: two for each weight and token, and attention."""
        tokens = size * length
        return 2.0 * self.weights * tokens + 4.0 * self.layers * tokens * length * self.hidden


def read_shape(folder: Path) -> Shape:
    """Raises KeyError where the model has other names for these."""
    config = json.loads((folder / "config.json").read_text())
    names = ("hidden_size", "num_hidden_layers", "intermediate_size")
    return Shape(*(int(config[name]) for name in names))


def floor(shape: Shape, size: int, length: int, rate: float, bandwidth: float, each: int) -> float:
    """Seconds, at so many operations and bytes a second, with weights of `each` bytes."""
    return max(shape.operations(size, length) / rate, shape.weights * each / bandwidth)
