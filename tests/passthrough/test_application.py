"""How the app is served."""

import httpx
from fastapi import APIRouter, Request

router = APIRouter()


@router.get("/client")
async def client(request: Request) -> list[str]:
    return [request.client.host if request.client else "", request.url.scheme]


def test_nobody_can_name_another_address_of_the_client(alice: httpx.Client) -> None:
    sent = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    assert alice.get("/client", headers=sent).json() == ["127.0.0.1", "http"]
