"""What happens to a call to Flyte: `make_safe.make_safe` lists what is changed in the SDK, and why.

``interceptor`` makes each call the caller's, ``sessions`` sends it, and ``request_calls`` ends it
with its request, and counts what comes back.
"""
