"""The ceiling: a Flask app that only answers, under the server's own gunicorn settings."""

import orjson
from flask import Flask, Response, request

THREAD = orjson.dumps(
    {
        "id": "thread_000000000000000000000001",
        "object": "thread",
        "created_at": 1_700_000_000,
        "metadata": {"user": "u1"},
        "tool_resources": {},
    }
)
app = Flask(__name__)


@app.get("/v1/threads/<thread_id>")
def retrieve(thread_id: str) -> Response:
    return Response(THREAD, content_type="application/json")


@app.post("/v1/threads")
def create() -> Response:
    orjson.loads(request.get_data())
    return Response(THREAD, content_type="application/json")
