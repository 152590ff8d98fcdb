"""What happens to a request.

- ``door``: where it is refused, its errors are answered, and it is logged.
- ``credentials``: what is public, and what the caller's credentials are in other requests.
- ``callers``: how many requests one may have open (429), and what a body may have (413).
- ``exchange``: its response, and how it ends early. Its deadline is in ``calls/request_calls``.
- ``client``: what its client sends, and whether the client has left.
- ``problems``: what an error is answered with, and what each status means.
- ``logging_setup``: the log. ``docs``: files, and the documentation.
- ``stopping``: what ends when the server is asked to stop.
"""
