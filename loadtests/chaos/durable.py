"""Jobs that outlive the process: the service has none, by design."""

from loadtests.chaos.scenario import NotRunnable, Scenario

_NONE = "the service keeps no durable jobs: every answer goes to a waiting connection"

SCENARIOS: tuple[Scenario | NotRunnable, ...] = tuple(
    NotRunnable(f"J{number}", injected, _NONE)
    for number, injected in enumerate(
        (
            "kill -9 of the whole service while jobs are submitted, run and fetched",
            "a crash between writing a result and its status",
            "one idempotency key submitted 50 times at once",
            "the job store is full, or a result expires while it is read",
            "a job that crashes its worker each time",
            "a callback endpoint that is down, slow or redirects for ever",
            "two services on one job store",
            "a job cancelled while queued, while running and when done",
        ),
        start=1,
    )
)
