"""What happens to a request.

- ``door``: where it is refused, its errors are answered, and it is logged.
- ``public``: what is public.
- ``callers``: how many requests a caller may have open (429).
- ``bodies``: how many values a body may have (413), and which large body is parsed when.
- ``exchange``: its response, and how it ends early. Its deadline is in ``calls/request_calls``.
- ``client``: what its client sends, and whether the client has left.
- ``problems``: what an error is answered with, and what each status means.
- ``credentials``: which headers and cookies are the caller's credentials.
- ``logging_setup``: the log. ``docs``: files, and the documentation.
- ``stopping``: what ends when the server is asked to stop.
"""
