"""What Python 2's byte strings were to the suite, for its conversion (copied into the package by convert.py).

A payload of the original is a byte string; in the converted source the same literal is text whose characters 0-255 stand for
those bytes. It becomes bytes in two places only: where a case hands it to autobahn (`Payloads`) and where the expected events
are compared with the received ones (`equal`). What comes from autobahn is bytes, and stays so.
"""

import binascii
import os


def to_bytes(value):
    """The bytes of a Python 2 string. A character beyond 255 is a fault of the conversion, and raises."""
    return value.encode("latin-1") if isinstance(value, str) else value


def to_text(value):
    """The same for people to read."""
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeError:
            return value
    return value.decode("utf-8", "backslashreplace") if isinstance(value, (bytes, bytearray)) else value


def hexlify(value):
    return binascii.hexlify(to_bytes(value)).decode("ascii")


def equal(one, other):
    """Whether two lists of events, tuples of a tag, a payload and perhaps a flag, are the same (not only equal: 1 is not True)."""

    def canonical(value):
        if isinstance(value, (list, tuple)):
            return type(value).__name__, [canonical(element) for element in value]
        return type(to_bytes(value)).__name__, to_bytes(value)

    return canonical(one) == canonical(other)


def for_json(value):
    if isinstance(value, dict):
        return {key if isinstance(key, int) else to_text(key): for_json(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [for_json(element) for element in value]
    return to_text(value) if isinstance(value, (bytes, bytearray)) else value


def data_file(name):
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


class Payloads:
    """Mixed in before autobahn's protocol: payloads become bytes on their way out."""

    def sendFrame(self, opcode, payload=b"", *arguments, **named):
        return super().sendFrame(opcode, to_bytes(payload), *arguments, **named)

    def sendMessage(self, payload, *arguments, **named):
        return super().sendMessage(to_bytes(payload), *arguments, **named)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        return super().sendCloseFrame(code, to_bytes(reasonUtf8), isReply)

    def sendMessageFrame(self, payload, *arguments, **named):
        return super().sendMessageFrame(to_bytes(payload), *arguments, **named)

    def sendMessageFrameData(self, payload, *arguments, **named):
        return super().sendMessageFrameData(to_bytes(payload), *arguments, **named)
