"""What happens to a request, in the order of its questions.

- Where is it refused, and with which status? ``door`` lists all places, and logs each request.
- What is public, and which headers are the caller's credentials? ``credentials``.
- How much may one caller take? ``callers``: open requests (429), and values in a body (413).
- When does it end? ``exchange``. Its deadline is the class in ``calls/request_calls``.
- Has its client left? ``client``.
- What is an error answered with? ``problems``.
- What does the log show? ``logging_setup``.
- What is served without calling Flyte? ``docs``: the probe, the documentation, a page's files.
- What ends when the server is asked to stop? ``stopping``.
"""
