"""An endpoint of models: one that is named `100/50` streams 100 tokens, one each 50 ms."""

import asyncio
import json

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    count, milliseconds = json.loads(await reader.readexactly(size))["model"].split("/")
    writer.write(_HEAD)
    for number in range(int(count)):
        _tell(writer, {"content": f"{number} "})
        await writer.drain()
        await asyncio.sleep(int(milliseconds) / 1e3)
    _tell(writer, {}, "stop")
    writer.write(b"data: [DONE]\n\n")
    writer.close()


def _tell(writer: asyncio.StreamWriter, delta: dict[str, str], finish: str | None = None) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"object": "chat.completion.chunk", "choices": [choice]}
    writer.write(b"data: %b\n\n" % json.dumps(chunk).encode())


async def main() -> None:
    """Print the port; serve until the process ends."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
