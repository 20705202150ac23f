"""Two models in a chain: a detector finds things in an image, a classifier says what each is.

The things of all images in a batch are classified together.
cd examples && batcher serve two_models:Chain
curl -sS localhost:8000/v1/predict -H 'content-type: image/png' --data-binary @things.png
"""

import io

import numpy as np
from PIL import Image

from batcher import Model

SIDE = 32  # of the squares that the detector looks at
NAMES = ["red", "green", "blue"]


class Chain(Model):
    def preprocess(self, request):
        image = Image.open(io.BytesIO(request.body), formats=["PNG"]).convert("RGB")
        return np.asarray(image.resize((4 * SIDE, 4 * SIDE)), np.float32) / 255

    def predict(self, batch):
        boxes = [self.detect(image) for image in batch]
        both = zip(batch, boxes, strict=True)
        crops = [image[y : y + SIDE, x : x + SIDE] for image, found in both for x, y in found]
        names = iter(self.classify(np.stack(crops)) if crops else ())
        return [[{"box": box, "is": next(names)} for box in found] for found in boxes]

    def detect(self, image):  # stands for a real one: squares that are not dark
        grid = image.reshape(4, SIDE, 4, SIDE, 3).mean(axis=(1, 3, 4))
        return [[int(x) * SIDE, int(y) * SIDE] for y, x in np.argwhere(grid > 0.2)]

    def classify(self, crops):  # stands for a real one: the strongest colour
        return [NAMES[k] for k in crops.mean(axis=(1, 2)).argmax(-1)]
