"""Marvin 2's Thread: it makes a thread with `messages: null`."""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path

# Marvin downloads a tokenizer; litellm ships the same file
[litellm] = find_spec("litellm").submodule_search_locations
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm, "litellm_core_utils", "tokenizers"))
warnings.simplefilter("ignore")

from marvin.beta.assistants import Thread  # noqa: E402

thread = Thread().create()
assert thread.get_messages() == []
for text in ("one", "two"):
    assert thread.add(text).thread_id == thread.id
assert [each.content[0].text.value for each in thread.get_messages()] == ["one", "two"]
thread.delete()
assert thread.id is None
