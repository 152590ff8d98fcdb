"""What happens to a request.

``door`` refuses pages of other sites and large headers, and logs. ``callers`` knows
what is public, and refuses a caller with too many requests open (429). ``bodies`` refuses bodies
with too many values (413). ``exchange`` ends the request with its client, or its deadline.
``problems`` writes the answer to an error, ``logging_setup`` the log; ``docs`` serves files;
``stopping`` ends streams when the server stops.
"""
