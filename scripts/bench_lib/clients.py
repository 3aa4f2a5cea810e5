"""Clients that wrk is not: idle ones, slow ones, and one that notices every request that fails."""

import selectors
import socket
import time

REQUEST = b"GET /1k.html HTTP/1.1\r\nHost: localhost\r\n\r\n"


def whole_reply(data):
    """The length of the first reply in `data`, or None while it is not complete."""
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    total = len(head) + 4 + length
    return total if len(data) >= total else None


def says_close(data):
    return b"\r\nconnection: close" in data.partition(b"\r\n\r\n")[0].lower()


def probe(port, timeout):
    """One request on a new connection: (seconds until its reply, None), or (None, what went wrong)."""
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(REQUEST)
            data = b""
            while whole_reply(data) is None:
                connection.settimeout(max(0.001, began + timeout - time.monotonic()))
                more = connection.recv(65536)
                if not more:
                    return None, "closed"
                data += more
    except socket.timeout:
        return None, "timed out"
    except OSError as error:
        return None, str(error)
    return time.monotonic() - began, None


class Idle:
    """Many connections that have had one reply each and now say nothing."""

    def __init__(self, port):
        self.port, self.open, self.served = port, [], 0

    def connect(self, count, patience):
        """Opens that many, a hundred at a time, each until its reply has come; gives up after `patience` seconds."""
        deadline = time.monotonic() + patience
        selector = selectors.DefaultSelector()
        waiting, left, buffers = 0, count, {}
        while (left or waiting) and time.monotonic() < deadline:
            while left and waiting < 100:
                connection = socket.socket()
                connection.setblocking(False)
                left -= 1
                try:
                    connection.connect(("127.0.0.1", self.port))
                except BlockingIOError:
                    pass
                except OSError:
                    connection.close()
                    continue
                selector.register(connection, selectors.EVENT_WRITE)
                buffers[connection] = b""
                waiting += 1
            for key, events in selector.select(0.2):
                connection = key.fileobj
                try:
                    if events & selectors.EVENT_WRITE:
                        connection.send(REQUEST)
                        selector.modify(connection, selectors.EVENT_READ)
                        continue
                    more = connection.recv(65536)
                except OSError:
                    more = b""
                buffers[connection] += more
                if not more or whole_reply(buffers[connection]) is not None:
                    selector.unregister(connection)
                    buffers.pop(connection)
                    waiting -= 1
                    if more:
                        self.served += 1
                        self.open.append(connection)
                    else:
                        connection.close()
        # Those still without a reply are held too: they are the server's to deal with.
        self.unserved = list(buffers)
        selector.close()

    def held(self):
        """How many of those with a reply the server has kept."""
        kept = 0
        for connection in self.open:
            try:
                if connection.recv(1) == b"":
                    continue
            except BlockingIOError:
                kept += 1
            except OSError:
                pass
        return kept

    def close(self):
        for connection in self.open + self.unserved:
            connection.close()


class Slow:
    """Clients that send a request's head one byte a second and never finish it."""

    HEAD = b"GET /1k.html HTTP/1.1\r\nHost: localhost\r\nX-Slow: "

    def __init__(self, port, count):
        self.coming, self.open, self.refused = [], [], 0
        for at in range(count):
            connection = socket.socket()
            connection.setblocking(False)
            try:
                connection.connect(("127.0.0.1", port))
            except BlockingIOError:
                pass
            except OSError:
                self.refused += 1
                connection.close()
                continue
            self.coming.append(connection)
            if at % 100 == 99:
                time.sleep(0.01)    # no more at once than a listen queue holds

    def byte(self):
        """The next byte of each, the first ones of those whose connection is there by now."""
        for group, data, kept in ((self.open, b"a", self.open), (self.coming, self.HEAD, self.open)):
            for connection in list(group):
                try:
                    connection.send(data)
                except BlockingIOError:
                    continue
                except OSError:
                    group.remove(connection)
                    self.refused += 1
                    connection.close()
                    continue
                if group is not kept:
                    group.remove(connection)
                    kept.append(connection)

    def close(self):
        for connection in self.open + self.coming:
            connection.close()


class Connection:
    """One of Steady's."""

    __slots__ = ("socket", "data", "used", "began", "sent")

    def __init__(self):
        self.socket, self.data, self.used, self.began, self.sent = None, b"", False, None, False


class Steady:
    """Requests on kept-alive connections, without a pause; tells apart what HTTP allows and what it doesn't.

    A server may close an idle connection at any time; a request that was just on its way into it and got
    not a byte of reply is sent again on a new connection (RFC 9112 section 9.3.1): `retried`. A new
    connection that is refused or closed without a reply, and a reply that breaks off, are failures.
    """

    def __init__(self, port, connections):
        self.port = port
        self.connections = [Connection() for _ in range(connections)]
        self.selector = selectors.DefaultSelector()
        self.done, self.retried, self.refused, self.no_reply, self.cut, self.bad = 0, 0, 0, 0, 0, 0
        self.waits = []

    def open(self, connection):
        connection.socket = socket.socket()
        connection.socket.setblocking(False)
        connection.data, connection.used, connection.sent = b"", False, False
        if connection.began is None:
            connection.began = time.monotonic()
        try:
            connection.socket.connect(("127.0.0.1", self.port))
        except BlockingIOError:
            pass
        except OSError:
            self.refused += 1
            connection.socket.close()
            connection.socket = None
            return
        self.selector.register(connection.socket, selectors.EVENT_WRITE, connection)

    def lost(self, connection):
        """The connection is gone: what does that mean for the request on it?"""
        self.selector.unregister(connection.socket)
        connection.socket.close()
        connection.socket = None
        if connection.began is None:
            return
        if connection.data:
            self.cut += 1
        elif connection.used:
            self.retried += 1
            return      # `began` stays: the wait goes on
        elif not connection.sent:
            self.refused += 1
        else:
            self.no_reply += 1
        connection.began = None

    def send(self, connection):
        if connection.began is None:
            connection.began = time.monotonic()
        try:
            connection.socket.send(REQUEST)
            connection.sent = True
            self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
        except OSError:
            self.lost(connection)

    def receive(self, connection):
        try:
            more = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.lost(connection)
            return
        connection.data += more
        length = whole_reply(connection.data)
        if length is None:
            return
        if not connection.data.startswith(b"HTTP/1.1 200 "):
            self.bad += 1
        self.done += 1
        self.waits.append(time.monotonic() - connection.began)
        connection.began = None
        if says_close(connection.data):
            self.lost(connection)
            return
        connection.data, connection.used = b"", True
        self.send(connection)

    def run(self, seconds):
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for connection in self.connections:
                if connection.socket is None:
                    self.open(connection)
            for key, events in self.selector.select(0.05):
                if events & selectors.EVENT_WRITE:
                    self.send(key.data)
                else:
                    self.receive(key.data)
        return now

    def overdue(self):
        """The longest that a request without a reply has waited by now."""
        now = time.monotonic()
        return max((now - connection.began for connection in self.connections if connection.began), default=0)

    def close(self):
        for connection in self.connections:
            if connection.socket:
                connection.socket.close()
        self.selector.close()
