"""A recommendation service composed with Ray Serve, to compare with.

It does what Ray Serve's tutorial "Model composition for recommendation systems" does: three deployments joined by
handles, of which one makes up features for a user, one scores a catalogue of 1,000 items, and one answers over HTTP.
It is tuned: one replica per deployment, no pauses that stand for work, and no wait to fill a batch.
"""

import random
import sys
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

CATALOGUE = [f"item_{number}" for number in range(1000)]
ONE_REPLICA = {"num_replicas": 1, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}}


@serve.deployment(**ONE_REPLICA)
class UserFeatures:
    async def of(self, user_id: str) -> dict[str, float]:
        draw = random.Random(user_id)
        return {
            "age_group": float(draw.randrange(18, 65)),
            "avg_session_duration": draw.uniform(5, 60),
            "total_purchases": float(draw.randrange(100)),
            "engagement_score": draw.random(),
        }


@serve.deployment(**ONE_REPLICA)
class ItemRanking:
    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0)
    async def rank(self, users: list[dict[str, float]]) -> list[list[dict[str, Any]]]:
        return [self._ranked(user) for user in users]

    def _ranked(self, user: dict[str, float]) -> list[dict[str, Any]]:
        scored = [
            {"item_id": item, "score": round(0.6 * user["engagement_score"] + 0.4 * (hash(item) % 100) / 100, 3)}
            for item in CATALOGUE
        ]
        return sorted(scored, key=lambda each: each["score"], reverse=True)


@serve.deployment(**ONE_REPLICA)
class Recommendations:
    def __init__(self, features: DeploymentHandle, ranking: DeploymentHandle) -> None:
        self._features = features
        self._ranking = ranking

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        features = await self._features.of.remote(body["user_id"])
        ranked = await self._ranking.rank.remote(features)
        return {"user_id": body["user_id"], "recommendations": ranked[: body.get("top_k", 5)]}


def main(port: int) -> None:
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Recommendations.bind(UserFeatures.bind(), ItemRanking.bind()), blocking=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
