"""The worker's side: the runners that come with the service. A leaf: it knows no HTTP and no state.

Reading order: config.py (what a runner is told) · create.py (a runner by its name) · encoder.py
(the runner of transformers' models) · heads.py (the task's part) · backends/ (the forward pass) ·
simulated.py. Nothing that a frontend imports of it brings in torch.
"""

from service.models.config import RunnerConfig as RunnerConfig
