"""A router with its own database, and with mistakes that give one user's notes to another user.

``test_own_data.py`` adds it to a project. The endpoints below ``/notes`` and ``/sound`` are right.
"""

import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from passthrough import CallerDep

router = APIRouter()
SCHEMA = """
    CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, owner TEXT, name TEXT, text TEXT);
    CREATE TABLE IF NOT EXISTS comment (note INTEGER, text TEXT);
    CREATE TABLE IF NOT EXISTS staff (subject TEXT);
    CREATE TABLE IF NOT EXISTS handle (name TEXT UNIQUE, owner TEXT);
"""


def open_database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(os.environ["NOTES"], check_same_thread=False)) as database:
        database.row_factory = sqlite3.Row
        database.executescript(SCHEMA)
        with database:
            yield database


Database = Annotated[sqlite3.Connection, Depends(open_database)]


class Note(BaseModel):
    text: str
    name: str = ""


def rows(database: Database, query: str, *values: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in database.execute(query, values)]


def owned(database: Database, note: int, caller: CallerDep) -> dict[str, Any]:
    found = rows(database, "SELECT * FROM note WHERE id = ? AND owner = ?", note, caller.subject)
    if not found:
        raise HTTPException(404, "there is no such note")
    comments = rows(database, "SELECT text FROM comment WHERE note = ?", note)
    return {**found[0], "comments": comments}


OwnedNote = Annotated[dict[str, Any], Depends(owned)]


def require_staff(database: Database, caller: CallerDep) -> None:
    if not rows(database, "SELECT * FROM staff WHERE subject = ?", caller.subject):
        raise HTTPException(403, "only staff may do this")


# Right


@router.post("/notes", status_code=201)
def add_note(database: Database, note: Note, caller: CallerDep) -> dict[str, Any]:
    insert = "INSERT INTO note (owner, name, text) VALUES (?, ?, ?)"
    return {"id": database.execute(insert, (caller.subject, note.name, note.text)).lastrowid}


@router.get("/notes")
def list_notes(database: Database, caller: CallerDep) -> list[dict[str, Any]]:
    return rows(database, "SELECT * FROM note WHERE owner = ?", caller.subject)


@router.get("/notes/{note}")
def get_note(note: OwnedNote) -> dict[str, Any]:
    return note


@router.patch("/notes/{note}")
def change_note(database: Database, note: OwnedNote, new: Note) -> None:
    database.execute("UPDATE note SET text = ? WHERE id = ?", (new.text, note["id"]))


@router.post("/notes/{note}/comments")
def comment(database: Database, note: OwnedNote, new: Note) -> None:
    database.execute("INSERT INTO comment VALUES (?, ?)", (note["id"], new.text))


@router.delete("/notes/{note}", status_code=204)
def delete_note(database: Database, note: int, caller: CallerDep) -> None:
    """Delete a note of the caller. The response is the same if there is no such note."""
    database.execute("DELETE FROM note WHERE id = ? AND owner = ?", (note, caller.subject))


@router.put("/sound/names/{name}")
def save(database: Database, name: str, new: Note, caller: CallerDep) -> None:
    key = (caller.subject, name)
    database.execute("DELETE FROM note WHERE owner = ? AND name = ?", key)
    database.execute("INSERT INTO note (owner, name, text) VALUES (?, ?, ?)", (*key, new.text))


@router.post("/sound/staff")
def become_staff(database: Database, code: str, caller: CallerDep) -> None:
    if code != "open sesame":
        raise HTTPException(403, "wrong code")
    database.execute("INSERT INTO staff VALUES (?)", (caller.subject,))


@router.get("/sound/staff/notes", dependencies=[Depends(require_staff)])
def all_notes(database: Database) -> list[dict[str, Any]]:
    return rows(database, "SELECT * FROM note")


@router.get("/sound/queue")
def queue(database: Database, caller: CallerDep) -> dict[str, int]:
    mine = rows(database, "SELECT * FROM note WHERE owner = ?", caller.subject)
    return {"mine": len(mine), "queue_length": len(rows(database, "SELECT * FROM note"))}


@router.post("/sound/handles")
def take_handle(database: Database, name: str, caller: CallerDep) -> None:
    if rows(database, "SELECT * FROM handle WHERE name = ?", name):
        raise HTTPException(409, "this name is taken")
    database.execute("INSERT INTO handle VALUES (?, ?)", (name, caller.subject))


# Mistakes


def any_note(database: Database, note: int, _: CallerDep) -> dict[str, Any]:
    if not (found := rows(database, "SELECT * FROM note WHERE id = ?", note)):
        raise HTTPException(404, "there is no such note")
    return found[0]


AnyNote = Annotated[dict[str, Any], Depends(any_note)]


@router.get("/wrong/notes/{note}")
def read(note: AnyNote) -> dict[str, Any]:
    return note


@router.get("/wrong/hidden/{note}", include_in_schema=False)
def read_hidden(note: AnyNote) -> str:
    return str(note["text"])


@router.get("/wrong/notes/{note}/stream", response_class=EventSourceResponse)
async def stream(note: AnyNote) -> AsyncGenerator[ServerSentEvent]:
    yield ServerSentEvent(data=note["text"])


@router.patch("/wrong/notes/{note}")
def change(database: Database, note: AnyNote, new: Note) -> None:
    database.execute("UPDATE note SET text = ? WHERE id = ?", (new.text, note["id"]))


@router.delete("/wrong/notes/{note}", status_code=204)
def delete(database: Database, note: int, _: CallerDep) -> None:
    database.execute("DELETE FROM note WHERE id = ?", (note,))


@router.post("/wrong/notes/{note}/comments")
def add_child(database: Database, note: AnyNote, new: Note) -> None:
    database.execute("INSERT INTO comment VALUES (?, ?)", (note["id"], new.text))


@router.get("/wrong/by-owner")
def by_owner(database: Database, owner: str, _: CallerDep) -> list[dict[str, Any]]:
    return rows(database, "SELECT text FROM note WHERE owner = ?", owner)


@router.post("/wrong/named")
def save_by_name(database: Database, new: Note, caller: CallerDep) -> None:
    if not database.execute(
        "UPDATE note SET text = ? WHERE name = ?", (new.text, new.name)
    ).rowcount:
        insert = "INSERT INTO note (owner, name, text) VALUES (?, ?, ?)"
        database.execute(insert, (caller.subject, new.name, new.text))


@router.get("/wrong/staff/notes")
def all_notes_for_anybody(database: Database, _: CallerDep) -> int:
    return len(rows(database, "SELECT * FROM note"))


@router.post("/wrong/staff/{subject}")
def promote(database: Database, subject: str, _: CallerDep) -> None:
    database.execute("INSERT INTO staff VALUES (?)", (subject,))


@router.get("/wrong/list")
def list_all(database: Database, _: CallerDep) -> list[str]:
    return [row["text"] for row in rows(database, "SELECT text FROM note")]


@router.get("/wrong/total")
def total(database: Database, _: CallerDep) -> int:
    return len(rows(database, "SELECT * FROM note"))


CACHE: dict[str, Any] = {}  # shared: for test_own_data.py


@router.get("/wrong/cached-list")
def cached(
    database: Database, caller: CallerDep, order: Annotated[str, Query()] = "id"
) -> list[str]:
    if order not in CACHE:
        found = rows(database, "SELECT text FROM note WHERE owner = ?", caller.subject)
        CACHE[order] = [row["text"] for row in found]
    return CACHE[order]  # type: ignore[no-any-return]


@router.get("/wrong/cached-count")
def cached_count(database: Database, caller: CallerDep) -> int:
    count = len(rows(database, "SELECT * FROM note WHERE owner = ?", caller.subject))
    CACHE["count"] = max(count, CACHE.get("count", 0))
    return int(CACHE["count"])


@router.get("/wrong/last")
def last(request: Request, database: Database, caller: CallerDep) -> Any:
    found = rows(database, "SELECT text FROM note WHERE owner = ?", caller.subject)
    before = getattr(request.app.state, "last", None)
    request.app.state.last = found[-1:] or before
    return before
