"""What happens to a call to Flyte.

``make_safe`` changes the SDK once, at start-up; its docstring explains each change. ``sdk`` lists
every private name of the SDK that is used. ``interceptor`` makes each call as the request's caller,
with the headers that ``passthrough_auth`` has taken from the request (``caller`` reads them).
``request_calls`` ends the call with the request, ``transport`` sends it, and ``received`` counts
what comes back.
"""
