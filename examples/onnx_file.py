"""An ONNX file of your own: what its graph takes and answers is declared, so it is checked.

pip install onnxruntime
cd examples && MODEL=mine.onnx batcher serve onnx_file:Onnx
curl -sS localhost:8000/v1/predict -H 'content-type: application/json' -d '{"inputs": [[1, 2, 3]]}'
"""

import os

import onnxruntime

from batcher import Model, Tensor

DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(double)": "float64"}


def tensors(nodes):
    """Without the first dimension, which is the batch's."""
    return [
        Tensor(n.name, DTYPES[n.type], [d if isinstance(d, int) else -1 for d in n.shape[1:]])
        for n in nodes
    ]


class Onnx(Model):
    def setup(self, device):
        provider = "CUDAExecutionProvider" if "cuda" in device else "CPUExecutionProvider"
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=[provider])
        self.inputs = tensors(self.session.get_inputs())
        self.outputs = tensors(self.session.get_outputs())

    def predict(self, batch):
        given = batch if isinstance(batch, dict) else {self.inputs[0].name: batch}
        names = [output.name for output in self.outputs]
        columns = self.session.run(names, given)
        return columns[0] if len(names) == 1 else dict(zip(names, columns, strict=True))
