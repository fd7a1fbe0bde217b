"""What `/readyz` returns: whether a service can serve, and separately whether anything is missing."""

from pydantic import BaseModel, computed_field

OK = "ok"
"""The state of a dependency without a problem."""


class Readiness(BaseModel):
    ready: bool
    """Whether the service can answer, if need be worse than usual. If not, a load balancer should not send requests."""
    dependencies: dict[str, str]
    """By name: `ok`, or the problem."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def degraded(self) -> bool:
        """Whether any dependency has a problem. Alerts should watch this, load balancers should not."""
        return any(state != OK for state in self.dependencies.values())
