"""The WSGI application of the bench: the routes of the demo application, a cache, a backend, and faults.

POST /fault?do=leak|lock|spin|files|forget|mend&rate=R plants one fault in the worker that gets it; there is one worker.
"""
import hashlib
import http.client
import json
import mmap
import os
import threading
import time
from urllib.parse import parse_qs

BACKEND = os.environ.get("BACKEND", "")
BLOCK = bytes(512)
ITEMS = [{"key": "k%04d" % i, "text": ("word%d " % (i % 97)) * 80} for i in range(4000)]
cache = {}
lock = threading.Lock()
local = threading.local()
faults = {"lock": 0.0, "forget": False}
stop = None
held = []


def work(units):
    digest = b""
    for _ in range(60 * units):
        digest = hashlib.sha256(BLOCK + digest).digest()
    return digest.hex()


def ask(key):
    """Waits for the backend's answer on a connection that this thread keeps."""
    if not BACKEND:
        return
    for _ in range(2):
        try:
            if getattr(local, "conn", None) is None:
                local.conn = http.client.HTTPConnection(BACKEND, timeout=10)
            local.conn.request("GET", "/" + key)
            local.conn.getresponse().read()
            return
        except (http.client.HTTPException, OSError):
            local.conn = None


def locked(f):
    with lock:
        if faults["lock"]:
            time.sleep(faults["lock"])
        return f()


def render(key, units):
    return json.dumps({"item": ITEMS[int(key[1:]) % len(ITEMS)], "digest": work(units)}).encode()


def item(key):
    ask(key)
    body = locked(lambda: cache.get(key))
    if body is None or faults["forget"]:
        body = render(key, 60)
        with lock:
            cache[key] = body
    work(1)
    return body


def note(key, body):
    hashlib.sha256(body).hexdigest()
    json.loads(body)
    work(2)
    locked(lambda: None)
    return b'{"noted": true}'


def repeat(every, step):
    """Runs step once in each span in a thread of its own, until mend."""
    global stop
    mend()
    stop = threading.Event()

    def run(ended):
        while not ended.wait(every):
            step()

    threading.Thread(target=run, args=(stop,), daemon=True).start()


def burn(span):
    end = time.monotonic() + span
    while time.monotonic() < end:
        pass


def grow(size):
    m = mmap.mmap(-1, size)
    m.write(b"x" * size)
    held.append(m)


def mend():
    global stop
    if stop:
        stop.set()
        stop = None
    time.sleep(0.1)
    while held:
        held.pop().close()
    faults.update(lock=0.0, forget=False)


def plant(do, rate):
    if do == "leak":
        repeat(0.1, lambda: grow(int(rate * 0.1)))
    elif do == "lock":
        faults["lock"] = rate
    elif do == "spin":
        repeat(0.05, lambda: burn(0.05 * rate))
    elif do == "files":
        repeat(1 / rate, lambda: held.append(open(os.devnull)))
    elif do == "forget":
        faults["forget"] = True
    else:
        mend()
    return b"{}"


def answer(method, path, query, body):
    name, _, key = path[1:].partition("/")
    if name == "healthz":
        return b"ok"
    if name == "fault":
        return plant(query["do"][0], float(query.get("rate", ["0"])[0]))
    if name == "search":
        locked(lambda: None)
        word = query["q"][0]
        found = [i["key"] for i in ITEMS[:400] if word in i["text"]]
        return json.dumps({"found": found[:10], "digest": work(2)}).encode()
    if name == "report":
        locked(lambda: None)
        return b"[" + b",".join(render(key, 4) for _ in range(8)) + b"]"
    return note(key, body) if method == "POST" else item(key)


def app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    out = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"]), body)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(out)))])
    return [out]
