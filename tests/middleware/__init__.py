"""The contract of the generated project's ``passthrough_auth.py``, in process and over sockets."""
