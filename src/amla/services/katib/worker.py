"""Suggesting in a process of its own, so that health answers meanwhile: Python runs one thread at a time.

What passes through the pipes is the request's own protobuf and the reply's. A frame is a tag, a length and so many bytes.
The tag is the place of the method in ``SERVICES``; in a reply it is the number of a gRPC status, and where that is not OK the
bytes are its message.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import struct
import subprocess
import sys
import threading
from typing import Any, BinaryIO

import grpc

from amla.services.katib.wire import SERVICES, message

_HEAD = struct.Struct(">BQ")
METHODS = SERVICES["Suggestion"]
OK, UNKNOWN = (code.value[0] for code in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN))
#: Codes by their numbers.
CODES = {code.value[0]: code for code in grpc.StatusCode}
#: One thread: the matrices of ``bayes`` are small, and threads of a library would wait for each other, or for health.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Seconds that a worker gets to notice that nobody asks any more.
GRACE = 5.0


class Worker:
    """The process, seen from the server. It is started at once, and again where it has died; one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = _started()

    def ask(self, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
        """The reply's bytes, or what is wrong. A request that ends the process is answered UNKNOWN; the next one gets a new
        process."""
        with self._lock:
            if self._process.poll() is not None:
                _end(self._process)
                self._process = _started()
            reader, writer = self._process.stdout, self._process.stdin
            assert reader is not None
            assert writer is not None
            try:
                _send(writer, METHODS.index(method), request)
                answer = _receive(reader)
            except BrokenPipeError:
                answer = None
            if answer is None:
                self._process.wait()
                return CODES[UNKNOWN], b"the process that suggests has ended; its log says why"
            return CODES[answer[0]], answer[1]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # of a process that has died
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _started() -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", __name__]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _send(writer: BinaryIO | Any, tag: int, content: bytes) -> None:
    writer.write(_HEAD.pack(tag, len(content)))
    writer.write(content)
    writer.flush()


def _receive(reader: BinaryIO | Any) -> tuple[int, bytes] | None:
    """The next frame; None where the other end is gone."""
    head = reader.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    tag, length = _HEAD.unpack(head)
    content = reader.read(length)
    return (tag, content) if len(content) == length else None


# ------------------------------------------------------------------------------------------------------ in the process itself
def main() -> None:
    """Answer until the server closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the server too, which then closes the pipe
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    gc.disable()  # while it answers: a history is a hundred thousand small objects, none of them rubbish
    while (frame := _receive(sys.stdin.buffer)) is not None:
        _send(replies, *_answer(METHODS[frame[0]], frame[1]))
        gc.collect()


def _answer(method: str, content: bytes) -> tuple[int, bytes]:
    from amla.services.katib.suggestion import ANSWERS, Refused

    try:
        reply = ANSWERS[method](message(f"{method}Request").FromString(content))
    except Refused as refused:
        return refused.code.value[0], str(refused).encode()
    return OK, reply.SerializeToString()


if __name__ == "__main__":
    main()
