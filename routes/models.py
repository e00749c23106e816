"""/models: the models that answer runs here."""

from flask import Blueprint, Response

import schemas
from database.waits import waiting
from players import pool
from rules import refusals
from rules.errors import AnswerError
from store.objects import Object
from web.operations import operation
from web.responses import answer

bp = Blueprint("models", __name__)
_SCRIPT = {"id": "script", "object": "model", "created": 0, "owned_by": "threads"}


@bp.get("")
@operation("listModels", "List the models that answer runs", schemas.ModelList)
def list_models() -> Response:
    return answer({"object": "list", "data": _models()})


@bp.get("/<path:model_id>")
@operation("getModel", "Retrieve a model", schemas.ModelObject)
def retrieve(model_id: str) -> Response:
    model = next((each for each in _models() if each["id"] == model_id), None)
    if model is None:
        raise refusals.no_such_model(model_id)
    return answer(model)


def _models() -> list[Object]:
    """Return what the endpoint lists, else the script. Raises ApiError 502."""
    players = pool.current()
    if players.model is None:
        return [_SCRIPT] if players.playing_script else []
    try:
        with waiting():
            return players.model.models()
    except AnswerError as error:
        raise refusals.model_failed(str(error)) from error
