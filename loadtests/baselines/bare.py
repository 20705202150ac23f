"""Baseline: a Starlette route that answers a constant. The most this HTTP stack could do."""

import argparse

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.baselines.model import serve


def create_app(size: int) -> Starlette:
    constant = b"0" * size

    async def answer(request: Request) -> Response:
        return Response(constant, media_type="application/json")

    return Starlette(
        routes=[Route("/embed", answer, methods=["POST"]), Route("/health/ready", answer)]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--size", type=int, required=True, help="bytes of an answer")
    arguments = parser.parse_args()
    serve(create_app(arguments.size), arguments.port)
