"""What the SDK does to an app that serves many people. Each test passes while the defect is there.

A test that fails here is good news: the SDK has been fixed, and docs/sdk-findings.md can say so.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import flyte
import msgpack
import pytest
from flyte import remote
from flyteidl2.core.interface_pb2 import TypedInterface
from flyteidl2.core.literals_pb2 import (
    Binary,
    Blob,
    BlobMetadata,
    Literal,
    LiteralOffloadedMetadata,
    Primitive,
    Scalar,
    Void,
)
from flyteidl2.core.types_pb2 import BlobType, LiteralType, SimpleType, TypeStructure
from flyteidl2.task.common_pb2 import Inputs, NamedLiteral
from google.protobuf.struct_pb2 import Struct

from .control_plane import ControlPlane, make_authority, serving, unavailable, wait_until

TOKEN = "token-of-alice"
FLYTE = Path(sys.executable).with_name("flyte")
ALICE = ("authorization", f"Bearer {TOKEN}")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plane(authority: tuple[Path, Path]) -> Iterator[ControlPlane]:
    """A control plane over TLS, to which the SDK of this process is connected."""
    ca, key = authority
    with serving(key) as plane:
        flyte.init(
            endpoint=plane.endpoint,
            auth_type="Passthrough",
            ca_cert_file_path=str(ca),
            org="o",
            project="p",
            domain="d",
        )
        yield plane


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "DO_NOT_TRACK": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def plaintext() -> Iterator[ControlPlane]:
    """A control plane that somebody else may listen to on the way."""
    with serving(None) as plane:
        yield plane


class LeavesAMark:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def rebuilt(plane: ControlPlane, kind: LiteralType, literal: Literal) -> dict[str, Any]:
    """Read the inputs of a run that somebody else has started."""
    plane.interface = TypedInterface()
    entry = plane.interface.inputs.variables.add(key="x")
    entry.value.type.CopyFrom(kind)
    plane.inputs = Inputs(literals=[NamedLiteral(name="x", value=literal)])

    async def read() -> dict[str, Any]:
        # What is executed has been executed by the time that the value is found to be no good.
        with remote.auth_metadata(ALICE), contextlib.suppress(Exception):
            return dict(await (await remote.RunDetails.get.aio(name="r")).inputs())
        return {}

    return asyncio.run(read())


@pytest.mark.parametrize("tag", ["", "pickle"])
def test_a_binary_input_is_unpickled(plane: ControlPlane, tmp_path: Path, tag: str) -> None:
    value = pickle.dumps(LeavesAMark(tmp_path / "mark"))
    binary = Binary(value=value, tag=tag)
    rebuilt(plane, LiteralType(simple=SimpleType.BINARY), Literal(scalar=Scalar(binary=binary)))
    assert (tmp_path / "mark").exists()


def test_a_stored_pickle_is_fetched_from_wherever_it_says_and_loaded(
    plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "stored").write_bytes(pickle.dumps(LeavesAMark(tmp_path / "mark")))
    kind = BlobType(format="PythonPickle")
    blob = Blob(uri=str(tmp_path / "stored"), metadata=BlobMetadata(type=kind))
    rebuilt(plane, LiteralType(blob=kind), Literal(scalar=Scalar(blob=blob)))
    assert (tmp_path / "mark").exists()


def test_a_dictionary_that_calls_itself_a_pickle_is_loaded_as_one(
    plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "stored").write_bytes(pickle.dumps(LeavesAMark(tmp_path / "mark")))
    struct = Struct()
    struct.update({"pickle_file": str(tmp_path / "stored")})
    literal = Literal(scalar=Scalar(generic=struct), metadata={"format": "pickle"})
    rebuilt(plane, LiteralType(simple=SimpleType.STRUCT), literal)
    assert (tmp_path / "mark").exists()


def test_an_offloaded_value_is_read_from_wherever_it_says(
    plane: ControlPlane, tmp_path: Path
) -> None:
    secret = Literal(scalar=Scalar(primitive=Primitive(string_value="of the process")))
    (tmp_path / "secret").write_bytes(secret.SerializeToString())
    offloaded = LiteralOffloadedMetadata(uri=(tmp_path / "secret").as_uri())
    literal = Literal(offloaded_metadata=offloaded)
    assert rebuilt(plane, LiteralType(simple=SimpleType.STRING), literal) == {"x": "of the process"}


def test_the_title_of_a_schema_is_executed(plane: ControlPlane, tmp_path: Path) -> None:
    # In the decoder that mashumaro writes for the outer class, the nested one is called by its
    # title; the line runs when the nested value is no object.
    title = f'__name__,__import__("os").mkdir("{tmp_path / "mark"}")'
    nested = {"type": "object", "title": title, "properties": {"x": {"type": "integer"}}}
    schema = {"type": "object", "title": "Outer", "properties": {"y": nested}, "required": ["y"]}
    kind = LiteralType(
        simple=SimpleType.STRUCT,
        metadata=schema,
        structure=TypeStructure(tag="Object-Dataclass-Transformer"),
    )
    binary = Binary(value=msgpack.packb({"y": 1}), tag="msgpack")
    rebuilt(plane, kind, Literal(scalar=Scalar(binary=binary)))
    assert (tmp_path / "mark").exists()


def test_references_that_double_are_followed_one_by_one(plane: ControlPlane) -> None:
    """Ten levels of a schema, in eleven definitions, become more than a thousand classes."""
    levels = 10
    definitions: dict[str, Any] = {
        f"n{level}": {
            "type": "object",
            "title": f"N{level}",
            "properties": {side: {"$ref": f"#/$defs/n{level + 1}"} for side in "ab"},
        }
        for level in range(levels)
    }
    definitions[f"n{levels}"] = {"type": "object", "title": "Leaf", "properties": {}}
    schema = {**definitions["n0"], "$defs": definitions}
    kind = LiteralType(simple=SimpleType.STRUCT, metadata=schema)
    with mock.patch("dataclasses.make_dataclass", wraps=dataclasses.make_dataclass) as made:
        rebuilt(plane, kind, Literal(scalar=Scalar(none_type=Void())))
    assert made.call_count > 2**levels - 1


WATCH = """
    import asyncio, sys, time
    import flyte
    from flyte import remote
    from flyteidl2.common.identifier_pb2 import ActionIdentifier, RunIdentifier

    run = RunIdentifier(org="o", project="p", domain="d", name="r")

    async def watch():
        async for _ in remote.ActionDetails.watch.aio(ActionIdentifier(run=run, name="a0")):
            return

    async def leave():
        with remote.auth_metadata(("authorization", "Bearer token-of-alice")):
            watching = asyncio.create_task(watch())
        print("watching", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        watching.cancel()
        started = time.process_time()
        while True:
            await asyncio.sleep(0.1)
            print("used", time.process_time() - started, flush=True)

    endpoint, ca_file = sys.argv[1:]
    flyte.init(endpoint=endpoint, auth_type="Passthrough", ca_cert_file_path=ca_file, org="o")
    asyncio.run(leave())
"""


@pytest.fixture
def viewer(plane: ControlPlane, authority: tuple[Path, Path]) -> Iterator[subprocess.Popen[str]]:
    """A process that watches a run at a control plane that does not answer, and has just left."""
    plane.answers.clear()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WATCH), plane.endpoint, authority[0]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert wait_until(lambda: "WatchActionDetails" in plane.methods())
        assert process.stdin
        process.stdin.write("leave\n")
        process.stdin.flush()
        yield process
        process.kill()


def test_a_watch_that_was_cancelled_subscribes_again(
    plane: ControlPlane, viewer: subprocess.Popen[str]
) -> None:
    assert wait_until(lambda: plane.methods().count("WatchActionDetails") > 1)
    assert set(plane.received("WatchActionDetails", "authorization")) == {f"Bearer {TOKEN}"}


def test_leaving_a_watch_that_is_not_answered_keeps_a_core_busy(
    viewer: subprocess.Popen[str],
) -> None:
    # It tells ten times a second how much CPU it has used, and has nothing else to do.
    assert viewer.stdout
    told = (line.split() for line in viewer.stdout if line.startswith("used"))
    spent = [float(seconds) for _, seconds in itertools.islice(told, 20)]
    assert spent[-1] - spent[0] > 0.5


def test_a_watch_logs_what_flyte_says_of_the_token(
    plane: ControlPlane, authority: tuple[Path, Path]
) -> None:
    plane.failures += [unavailable(f"bad token {TOKEN}")] * 6
    done = python(
        f"""
        import flyte
        from flyte import remote
        from flyteidl2.common.identifier_pb2 import ActionIdentifier, RunIdentifier
        flyte.init(endpoint="{plane.endpoint}", auth_type="Passthrough",
                   ca_cert_file_path="{authority[0]}", org="o")
        run = RunIdentifier(org="o", project="p", domain="d", name="r")
        with remote.auth_metadata(("authorization", "Bearer {TOKEN}")):
            next(iter(remote.ActionDetails.watch(ActionIdentifier(run=run, name="a0"))))
        """
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN in done.stdout + done.stderr


def test_credentials_follow_select_cluster_to_a_plaintext_address(
    plane: ControlPlane, plaintext: ControlPlane
) -> None:
    plane.cluster_endpoint = plaintext.endpoint

    async def read() -> None:
        with remote.auth_metadata(ALICE):
            await (await remote.RunDetails.get.aio(name="r")).inputs()

    asyncio.run(read())
    assert plaintext.received("GetActionData", "authorization") == [f"Bearer {TOKEN}"]


def test_a_custom_credential_follows_a_redirect_to_a_plaintext_address(
    plane: ControlPlane, plaintext: ControlPlane
) -> None:
    plane.redirect_to = plaintext.endpoint
    with remote.auth_metadata(("x-api-key", TOKEN)):
        try:
            remote.User.get()
        except Exception as error:  # noqa: BLE001 - whatever became of it, the key has arrived
            print(type(error).__name__)
    assert TOKEN in plaintext.received("UserInfo", "x-api-key")


def test_over_plaintext_the_callers_credentials_are_dropped_silently(
    plaintext: ControlPlane,
) -> None:
    flyte.init(endpoint=plaintext.endpoint, insecure=True, auth_type="Passthrough", org="o")
    with remote.auth_metadata(ALICE):
        assert remote.User.get().subject() == "someone"
    assert plaintext.received("UserInfo", "authorization") == [None]


def test_a_task_that_was_fetched_for_one_caller_is_served_to_the_next(plane: ControlPlane) -> None:
    task = remote.Task.get("t", project="p", domain="d", auto_version="latest")
    with remote.auth_metadata(ALICE):
        task.fetch()
    plane.calls.clear()
    with remote.auth_metadata(("authorization", "Bearer of-bob")):
        assert task.fetch().name == "t"
    assert plane.calls == []


def test_where_data_is_is_remembered_for_every_caller(plane: ControlPlane) -> None:
    alice, bob = ALICE[1], "Bearer of-bob"
    for token in (alice, bob):
        # What an interface of the control plane's holds is no matter, only who asked where.
        with (
            remote.auth_metadata(("authorization", token)),
            contextlib.suppress(Exception),
        ):
            asyncio.run(_inputs_of_r())
    assert plane.received("GetActionData", "authorization") == [alice, bob]
    assert plane.received("SelectCluster", "authorization") == [alice]


async def _inputs_of_r() -> None:
    await (await remote.RunDetails.get.aio(name="r")).inputs()


def test_the_hash_of_a_file_is_remembered_by_its_path(plane: ControlPlane, tmp_path: Path) -> None:
    path, opened, real_open = tmp_path / "upload", [], open

    def noting_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return real_open(file, *args, **kwargs)

    for content, token in (("alice's", ALICE[1]), ("bob's", "Bearer of-bob")):
        path.write_text(content)
        # This control plane takes no files, but is asked to, once the hash is there.
        with (
            remote.auth_metadata(("authorization", token)),
            mock.patch("builtins.open", noting_open),
            pytest.raises(flyte.errors.RuntimeSystemError, match="Not implemented"),
        ):
            remote.upload_file(path)
    assert plane.methods().count("CreateUploadLocation") == 2
    assert opened.count(str(path)) == 1


def test_a_run_without_a_name_is_created_twice_when_the_first_answer_is_lost(
    plane: ControlPlane,
) -> None:
    plane.failures.append(unavailable())
    task = remote.Task.get("t", project="p", domain="d", auto_version="latest")
    with remote.auth_metadata(ALICE):
        flyte.run(task)
    assert plane.methods().count("CreateRun") == 2


def test_an_injected_variable_makes_an_explicit_tls_endpoint_plaintext(
    plaintext: ControlPlane,
) -> None:
    address = plaintext.endpoint.removeprefix("http://")
    done = python(
        f"""
        import flyte
        from flyte import remote
        flyte.init_in_cluster(endpoint="dns:///{address}", org="o")
        print(remote.User.get().subject())
        """,
        _U_INSECURE="true",
    )
    assert done.stdout.strip().endswith("someone"), done.stderr


def test_what_ends_the_process_is_printed_to_standard_output() -> None:
    done = python("import flyte\nraise RuntimeError('not for a pipe')")
    assert done.returncode != 0
    assert "not for a pipe" in done.stdout


def test_an_app_with_a_router_cannot_be_deployed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            import fastapi, flyte
            from flyte.app.extras import FastAPIAppEnvironment
            app = fastapi.FastAPI()
            router = fastapi.APIRouter()
            app.include_router(router)
            env = FastAPIAppEnvironment(
                name="a", app=app, image=flyte.Image.from_base("python:3.12"),
            )
            """
        )
    )
    (tmp_path / "config.yaml").write_text("admin: {endpoint: dns:///127.0.0.1:1}\n")
    done = subprocess.run(
        f"{FLYTE} --config config.yaml deploy --dry-run app.py env".split(),
        cwd=tmp_path,
        env={**os.environ, "DO_NOT_TRACK": "1", "HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "pickle" in done.stdout + done.stderr
