"""What happens to a call to Flyte.

``make_safe`` changes the SDK once, at start-up; its docstring explains each change. ``sdk`` lists
every private name of the SDK that is used. ``interceptor`` makes each call as the request's caller,
``request_calls`` ends it with the request, ``transport`` sends it, and ``received`` counts what
comes back.
"""
