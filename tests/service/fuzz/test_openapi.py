"""The service does what /openapi.json says, whatever is sent. The long form of this is
`python -m loadtests check schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from service.app import create_app
from service.tasks.plain_text import SimulatedTokenizer
from tests.conftest import EFFORT
from tests.service.conftest import FakeClient, make_front, served

_CONFIG = Path(__file__).parents[3] / "loadtests" / "openapi.toml"


def described() -> Any:
    front = make_front(FakeClient())
    front.served = served(SimulatedTokenizer())
    config = SchemathesisConfig.from_path(str(_CONFIG))
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(front), config=config)


schema = described()


@schema.parametrize()
@settings(
    max_examples=25 * EFFORT,
    phases=[Phase.explicit, Phase.generate],  # a failing request is as good unshrunk, and sooner
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_names(case: Case) -> None:
    case.call_and_validate()
