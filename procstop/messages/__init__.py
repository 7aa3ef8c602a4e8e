"""What the processes of a run say to one another: encode, decode, bounds. No I/O.

Each conversation has a module, and whoever takes no part in one does not load it: a fresh worker is there sooner.

    worker       supervisor and worker, on the control and the report pipe
    orders       what a worker is to do: laid ready for a fresh one, sent along with a request to fork one
    forkserver   supervisor and fork server, one to a packet
    compiler     compiler to supervisor: one answer

What comes from the supervisor is trusted; what the others say is not: it is held to `bounds`, and whatever is not
exactly as described raises `ProtocolError`. What several conversations share can be had from here.
"""

from procstop.messages.bounds import MAX_TEXT, ProtocolError, cut_text, encode_value
from procstop.messages.orders import TOKEN, Order

__all__ = ["MAX_TEXT", "TOKEN", "Order", "ProtocolError", "cut_text", "encode_value"]
