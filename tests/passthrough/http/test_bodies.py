"""From whom a body is read."""

from fastapi import APIRouter

from ..support import connected, head

router = APIRouter()


@router.post("/length")
async def length(values: list[int]) -> int:
    return len(values)


def test_a_large_body_is_not_read_from_somebody_whom_flyte_does_not_know(url: str) -> None:
    kind = "Content-Type: application/json"
    for size in ("Content-Length: 1000000", "Content-Length: 5000", "Transfer-Encoding: chunked"):
        sent = head("/length", kind, size, person="expired", method="POST")
        with connected(url, sent) as connection:  # and no byte of the body
            assert connection.recv(12) == b"HTTP/1.1 401"
