"""Endpoints in ``app/routers``, in cases that their owner does not have to test."""
