"""Listening TCP sockets of this machine, asked of Linux over netlink (sock_diag(7)).

The lists below /proc/net cost 10 ms of the processor at every look, whoever listens: the kernel walks through its table of all
connections.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

SOCK_DIAG, BY_FAMILY = 4, 20  # NETLINK_SOCK_DIAG; SOCK_DIAG_BY_FAMILY
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3  # kinds of an answer: NLMSG_ERROR, NLMSG_DONE
LISTEN = 1 << 10  # TCP_LISTEN, as a set of states
HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
PORT, INODE = 16 + 4, 16 + 68  # where they stand in an answer: behind its header, in struct inet_diag_msg


def listening(port: int) -> set[int]:
    """Inodes of the sockets that listen on ``port``; OSError where the kernel does not tell."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        return {inode for family in (socket.AF_INET, socket.AF_INET6) for at, inode in _asked(kernel, family) if at == port}


def _asked(kernel: socket.socket, family: int) -> Iterator[tuple[int, int]]:
    """Port and inode of each."""
    request = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, LISTEN)
    kernel.send(HEADER.pack(HEADER.size + len(request), BY_FAMILY, DUMP, 1, 0) + request)
    while True:
        answer = kernel.recv(1 << 16)
        while answer:
            length, kind, *_ = HEADER.unpack_from(answer)
            if kind == ERROR:
                number = -struct.unpack_from("=i", answer, HEADER.size)[0]
                raise OSError(number, os.strerror(number))
            if kind == DONE:
                return
            yield struct.unpack_from(">H", answer, PORT)[0], struct.unpack_from("=I", answer, INODE)[0]
            answer = answer[(length + 3) & ~3 :]
