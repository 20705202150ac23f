"""A scikit-learn model: four measures of a flower in, its kind out.

pip install scikit-learn
cd examples && batcher serve sklearn_model:Iris
curl -sS localhost:8000/v1/predict -H 'content-type: application/json' \
  -d '{"inputs": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}'
"""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from batcher import Model, Tensor


class Iris(Model):
    inputs = [Tensor("measures", "float64", (4,))]

    def setup(self, device):
        self.data = load_iris()  # or joblib.load("mine.joblib")
        self.model = LogisticRegression(max_iter=1000).fit(self.data.data, self.data.target)

    def predict(self, batch):  # an array of shape (batch, 4)
        return [
            {"kind": str(self.data.target_names[row.argmax()]), "probability": float(row.max())}
            for row in self.model.predict_proba(batch)
        ]
