"""A small WSGI application that leaks once the file "leak" exists in its data directory."""
import hashlib
import os

kept = []
leak = os.path.join(os.environ["FETTLE_DATA"], "leak")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/plant-leak":
        open(leak, "w").close()
    elif os.path.exists(leak):
        kept.append(bytearray(os.urandom(64) * 4096))  # 256 KiB, touched
    digest = hashlib.sha256(path.encode()).hexdigest()
    for _ in range(300):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    body = digest.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
