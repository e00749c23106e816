"""What can be wrong with a model: each fault as the run tells it, with what a person can do."""

from http.client import IncompleteRead

from rules.errors import AnswerError, shown


def unreachable(error: Exception) -> AnswerError:
    cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _fault(f"It cannot be reached: {cause}. Is it running where THREADS_MODEL_URL says?")


def stalled(seconds: float) -> AnswerError:
    advice = "Is it busy, or still loading the model? THREADS_MODEL_TIMEOUT sets the wait."
    return _fault(f"It sent nothing for {seconds:g} seconds. {advice}")


def cut_off(error: Exception | None = None) -> AnswerError:
    ended = "" if error is None or isinstance(error, IncompleteRead) else f" ({error})"
    return _fault(f"Its answer ended in the middle{ended}. Its log may have the cause; run again.")


def redirects() -> AnswerError:
    return _fault("It redirects, which is not followed. Write the final THREADS_MODEL_URL.")


def wrong_key(status: int, said: str) -> AnswerError:
    return _fault(f"It refuses the key ({status}). Check THREADS_MODEL_KEY.{_quoted(said)}")


def not_there(said: str) -> AnswerError:
    advice = "Check the name of the model, THREADS_MODELS, and THREADS_MODEL_URL (it needs /v1)."
    return _fault(f"It has no such model or address (404). {advice}{_quoted(said)}")


def too_many(said: str) -> AnswerError:
    advice = "Wait, or raise its limit; THREADS_RUNS sets how many runs ask at once."
    return _fault(f"It has too many requests (429). {advice}{_quoted(said)}", "rate_limit_exceeded")


def too_long(said: str) -> AnswerError:
    advice = "Set max_prompt_tokens or a truncation_strategy, or give the model a larger context."
    return _fault(f"The thread is too long for it. {advice}{_quoted(said)}", "invalid_prompt")


def refused(status: int, said: str) -> AnswerError:
    advice = "Check the name of the model, and what the run sets."
    return _fault(f"It refuses the request ({status}). {advice}{_quoted(said)}", "invalid_prompt")


def broken(status: int, said: str) -> AnswerError:
    return _fault(f"It failed ({status}). Its log has the cause; run again.{_quoted(said)}")


def failed(said: str) -> AnswerError:
    return _fault(f"It failed while it answered; run again.{_quoted(said)}")


def no_json(said: str) -> AnswerError:
    advice = "Does THREADS_MODEL_URL name an OpenAI-compatible endpoint?"
    return _fault(f"It sent what is no JSON of a chat completion. {advice}{_quoted(said)}")


def not_storable(text: str) -> AnswerError:
    problem = "It sent the character U+0000, which cannot be stored"
    return _fault(f"{problem}. Run again, or use another model.{_quoted(text)}")


def too_large() -> AnswerError:
    return _fault("It does not stop: the answer is too large. Set max_completion_tokens.")


def wrong_arguments(name: str, arguments: str) -> AnswerError:
    problem = f"It calls the function {shown(name)} with arguments that are no JSON object"
    return _fault(f"{problem}. Run again, or use a model that is better at it.{_quoted(arguments)}")


def held_back() -> AnswerError:
    return _fault(
        "Its content filter held back the rest. Ask in other words, or change the filter."
    )


def unknown_end(reason: str) -> AnswerError:
    return _fault(f"It ended for a reason that is not known here: {shown(reason)}. Run again.")


def _fault(sentence: str, code: str = "server_error") -> AnswerError:
    # What it says is quoted here, and a run with U+0000 in its last_error could not be imported.
    return AnswerError(code, f"The model's endpoint: {sentence}".replace("\0", "\ufffd"))


def _quoted(said: str) -> str:
    return f" It says: {shown(said)}" if said else ""
